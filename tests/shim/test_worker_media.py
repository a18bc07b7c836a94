"""Trouble on the way to Asterisk and back: rows 3, 23 to 27, 28 and 33."""

import asyncio
import itertools
import json
import signal
import socket
import time

from shim.control import CallClosed, StreamStarted, WorkerStats
from tests.shim.asterisk_media import assert_continuous
from tests.shim.harness import CallLeg, WorkerHarness, WorkerProcess
from tests.shim.polling import until
from tests.shim.raw_server import CLOSE, TEXT, RawConnection, RawServer, close_frame
from tests.shim.samples import frame, rtp
from tests.shim.voice_server import VoiceServer


async def closed_stats(harness: WorkerHarness, worker: WorkerProcess, leg: CallLeg) -> CallClosed:
    """End a call and return its counters."""
    harness.end_call(worker, leg)
    [closed] = await worker.wait(CallClosed)
    return closed


async def test_malformed_datagrams() -> None:
    """Rows 24 and 25: counted and dropped, without a line each in the log; the call goes on."""
    bad = [
        b"",
        b"\x80",
        b"\x80\x00" * 5 + b"\x80",
        b"\x8f" + rtp(2)[1:60],
        b"\xa0" + rtp(3)[1:-1] + b"\x00",
        b"\x90" + rtp(4)[1:12] + b"\xbe\xde\xff\xff",
        b"\x40" + rtp(5)[1:],
        b"\x00" * 172,
    ]
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        stream = await voice.stream()
        for number in range(20):
            for datagram in bad:
                leg.asterisk.send(datagram)
            leg.asterisk.send(rtp(number))
            await stream.wait("media", number + 1)
        leg.asterisk.send(rtp(20, payload=b""))  # well-formed, but nothing to pass on
        leg.asterisk.send(rtp(21, 20 * 160))
        await stream.wait("media", 21)
        assert all(stream.payloads())
        assert stream.payloads()[:20] == [frame(number) for number in range(20)]
        lines = worker.log.count("\n")
        stats = (await closed_stats(harness, worker, leg)).stats
        assert (stats.malformed, stats.frames_in, stats.lost) == (160, 22, 0)
        assert lines <= 5
        assert_continuous(leg.asterisk.packets)


async def test_loss_duplicates_and_reordering() -> None:
    """Row 26: order is kept, duplicates and late packets are dropped, gaps show."""
    numbers = [65533, 65534, 65534, 1, 0, 2, 2, 5, 4, 6]
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        stream = await voice.stream()
        for number in numbers:
            behind = (number - 65533) % 65536
            leg.asterisk.send(rtp(number, 4294967000 + 160 * behind & 0xFFFFFFFF))
        media = await stream.wait("media", 6)
        assert stream.payloads() == [frame(n) for n in (65533, 65534, 1, 2, 5, 6)]
        times_ms = [int(message["media"]["timestamp"]) for message in media]
        assert [ms - times_ms[0] for ms in times_ms] == [0, 20, 80, 100, 160, 180]
        stats = (await closed_stats(harness, worker, leg)).stats
        assert (stats.lost, stats.late, stats.duplicate) == (2, 2, 2)


async def test_new_source_in_mid_call() -> None:
    """Row 26: an SSRC change, as on a transfer, is followed at once."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        stream = await voice.stream()
        leg.asterisk.send(rtp(1))
        leg.asterisk.send(rtp(2))
        leg.asterisk.send(rtp(40000)[:8] + b"\0\0\0\x09" + frame(3))
        leg.asterisk.send(rtp(40001)[:8] + b"\0\0\0\x09" + frame(4))
        await stream.wait("media", 4)
        assert stream.payloads() == [frame(n) for n in (1, 2, 3, 4)]


async def test_flood_from_a_stranger() -> None:
    """Row 23: the kernel drops 10,000 packets a second from another address; pacing unchanged."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        stream = await voice.stream()
        await worker.wait(WorkerStats)
        cpu_before = worker.link.of(WorkerStats)[-1].totals.cpu_seconds
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            start = time.monotonic()
            for burst in range(100):
                for _ in range(100):
                    stranger.sendto(rtp(burst), leg.rtp.getsockname())
                await asyncio.sleep(max(0, start + (burst + 1) * 0.01 - time.monotonic()))
        leg.asterisk.speak(frame(9))
        await stream.wait("media")
        assert stream.payloads() == [frame(9)]
        stats = await worker.wait(WorkerStats, len(worker.link.of(WorkerStats)) + 1)
        assert stats[-1].totals.cpu_seconds - cpu_before < 0.5
        call = (await closed_stats(harness, worker, leg)).stats
        assert (call.frames_in, call.malformed) == (1, 0)
        assert_continuous(leg.asterisk.packets)


async def test_flood_from_asterisk() -> None:
    """Row 24: garbage from Asterisk's own address holds up neither this call nor the others."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        victim, other = (harness.connected_call(worker, voice.url) for _ in range(2))
        streams = [await voice.stream(number) for number in range(2)]
        start = time.monotonic()
        for burst in range(100):
            for _ in range(100):
                victim.asterisk.send(b"garbage")
            if burst % 2:
                other.asterisk.speak(frame(burst))
            await asyncio.sleep(max(0, start + (burst + 1) * 0.01 - time.monotonic()))
        (heard,) = (s for s in streams if s.stream_sid == other.call.stream_sid)
        await heard.wait("media", 50)
        for leg in (victim, other):
            assert_continuous(leg.asterisk.packets)
        assert worker.log.count("\n") < 10
        stats = (await closed_stats(harness, worker, victim)).stats
        assert stats.malformed > 500
        assert stats.frames_in == 0


async def test_refused_by_asterisk() -> None:
    """Row 27: a closed port (ICMP) costs no busy loop and one line; a return is served again."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        await leg.asterisk.wait_packets(5)
        address = leg.asterisk.address
        leg.asterisk.close()
        first = (await worker.wait(WorkerStats, len(worker.link.of(WorkerStats)) + 1))[-1]
        second = (await worker.wait(WorkerStats, len(worker.link.of(WorkerStats)) + 1))[-1]
        assert second.totals.cpu_seconds - first.totals.cpu_seconds < 0.3
        assert 20 < second.totals.stats.frames_out - first.totals.stats.frames_out < 80
        assert worker.log.count("rtp_receive_failed") <= 1
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as returned:
            returned.bind(address)
            returned.settimeout(2)
            assert len(returned.recv(2048)) == 172
            returned.connect(leg.rtp.getsockname())
            returned.send(rtp(1))
            await (await voice.stream()).wait("media")
        stats = (await closed_stats(harness, worker, leg)).stats
        assert stats.frames_out > second.totals.stats.frames_out


async def test_stalled_worker_catches_up_three_frames() -> None:
    """Row 3: stopped for 400 ms it sends three frames at once, skips the rest, drifts no more."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        await leg.asterisk.wait_packets(10)
        worker.kill(signal.SIGSTOP)
        await until(lambda: stopped(worker), "the stop")
        count = len(leg.asterisk.packets)
        stall_until = time.monotonic() + 0.4
        await until(lambda: time.monotonic() > stall_until, "the stall's end")
        assert len(leg.asterisk.packets) <= count + 1
        resumed_at_ns = time.monotonic_ns()
        worker.kill(signal.SIGCONT)
        await leg.asterisk.wait_packets(30)
        packets = leg.asterisk.packets
        sequences = [(packet.sequence - packets[0].sequence) % 65536 for packet in packets]
        assert sequences == list(range(len(packets)))
        steps = [
            (after.timestamp - before.timestamp) % (1 << 32) // 160
            for before, after in itertools.pairwise(packets)
        ]
        jumps = [step for step in steps if step != 1]
        assert len(jumps) == 1
        assert 15 <= jumps[0] <= 30
        burst = [
            arrival
            for arrival in leg.asterisk.arrivals
            if 0 < arrival.at_ns - resumed_at_ns < 10_000_000
        ]
        assert len(burst) <= 4  # three, and the one whose time has come
        stats = (await worker.wait(WorkerStats, len(worker.link.of(WorkerStats)) + 1))[-1]
        assert stats.totals.skipped_frames == jumps[0] - 1


def stopped(worker: WorkerProcess) -> bool:
    """Whether the process is stopped, as proc(5), stat, says."""
    with open(f"/proc/{worker.process.pid}/stat", encoding="ascii") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] == "T"


async def test_slow_reader() -> None:
    """Row 33: the oldest audio is dropped and counted; when it reads again it is 200 ms behind."""
    read_on = asyncio.Event()
    frames: list[tuple[int, bytes]] = []

    async def nap(connection: RawConnection) -> None:
        await connection.accept()
        connection.stop_reading()
        await read_on.wait()
        connection.read_again()
        frames.extend(await connection.read_frames(until=CLOSE))
        await connection.send(close_frame(1000))

    async with WorkerHarness() as harness, RawServer(nap, 4096) as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        await worker.wait(StreamStarted)
        before = worker.memory_bytes()
        await leg.asterisk.speak_for(200, 0.005)
        assert worker.memory_bytes() - before < 1 << 20
        read_on.set()
        await leg.asterisk.speak_for(25)
        stats = (await closed_stats(harness, worker, leg)).stats
        await until(lambda: frames, "the stream's end")
    messages = [json.loads(payload) for opcode, payload in frames if opcode == TEXT]
    media = [message["media"] for message in messages if message["event"] == "media"]
    assert [int(one["chunk"]) for one in media] == list(range(1, len(media) + 1))
    times_ms = [int(one["timestamp"]) for one in media]
    spoken = [(ms - times_ms[0]) // 20 for ms in times_ms]
    gaps = [(before, after) for before, after in itertools.pairwise(spoken) if after != before + 1]
    [(last_before, first_after)] = gaps
    assert last_before < 150  # the kernel's buffers hold some, and no more
    assert 185 <= first_after <= 195  # ten frames are 200 ms
    assert spoken[-1] == 224
    assert stats.frames_in == 225
    assert stats.audio_dropped == 225 - len(media) == first_after - last_before - 1
