"""A worker without its supervisor, with a new one, and calls that move between workers."""

import asyncio
import itertools
import signal
import time

from shim.control import (
    CallClosed,
    CallRefused,
    CallReleased,
    HeldCall,
    MediaConnected,
    PressDigit,
    ReleaseCall,
    StartCall,
    StopWorker,
    StreamEnded,
    StreamStarted,
    WorkerStats,
)
from tests.shim.asterisk_media import assert_continuous
from tests.shim.harness import SHAPE, WorkerHarness
from tests.shim.polling import until
from tests.shim.samples import call_spec
from tests.shim.voice_server import VoiceServer
from tests.supervisor.few_fds import no_fds_left


async def test_media_goes_on_without_a_supervisor() -> None:
    """Row 6: no gap in the audio; a new supervisor gets Hello and the calls with their sockets."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        legs = [harness.connected_call(worker, voice.url) for _ in range(2)]
        waiting = harness.start_call(worker, voice.url)
        await worker.wait(StreamStarted, 3)
        harness.vanish()
        for leg in (*legs, waiting):
            leg.rtp.close()  # the dead supervisor's copies
        await legs[0].asterisk.wait_packets(30)
        await legs[0].asterisk.speak_for(3)
        (stream,) = (s for s in voice.streams if s.stream_sid == legs[0].call.stream_sid)
        await stream.wait("media", 3)
        harness.listen()
        before = len(harness.links)
        worker.link = await harness.hello(0, before)
        assert worker.link.hello is not None
        assert worker.link.hello.calls == 3
        held = await worker.wait(HeldCall, 3)
        assert {(one.call.call_sid, one.connected) for one in held} == {
            (legs[0].call.call_sid, True),
            (legs[1].call.call_sid, True),
            (waiting.call.call_sid, False),
        }
        ports = {leg.call.call_sid: leg.asterisk.peer for leg in (*legs, waiting)}
        for one, sock in zip(held, worker.link.passed, strict=True):
            assert sock.getsockname() == ports[one.call.call_sid]
        assert worker.link.passed[-1].getsockname() == waiting.asterisk.peer
        waiting.rtp = worker.link.passed[-1]
        harness.connect_media(worker, waiting)  # the adopted call is served by its new owner
        await waiting.asterisk.wait_packets(3)
        harness.end_call(worker, legs[0])
        [closed] = await worker.wait(CallClosed)
        assert closed.call_sid == legs[0].call.call_sid
        for leg in legs:
            assert_continuous(leg.asterisk.packets)
        assert len(voice.streams) == 3


async def test_orphan_gives_up() -> None:
    """Row 6: without a supervisor for ORPHAN_GRACE the worker ends its calls and exits with 0."""
    async with WorkerHarness({"ORPHAN_GRACE": "0.5"}) as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        harness.connected_call(worker, voice.url)
        stream = await voice.stream()
        start = time.monotonic()
        harness.vanish()
        assert await worker.wait_exit() == 0
        assert 0.4 < time.monotonic() - start < 3
        assert stream.messages[-1]["event"] == "stop"
        assert await stream.wait_closed() == 1000
        assert "worker_orphaned" in worker.log


async def test_worker_waits_for_its_first_supervisor() -> None:
    """A worker that is there first finds the supervisor when it comes."""
    async with WorkerHarness() as harness:
        harness.stop_listening()
        worker = harness.launch()
        await until(lambda: harness.memory.layout.heartbeat_ns(0, 0), "the worker's heartbeat")
        harness.listen()
        worker.link = await harness.hello(0)


async def test_sigterm_is_the_supervisors_to_act_on() -> None:
    """Row 7: with a supervisor SIGTERM is ignored; when that is gone, the worker goes at once."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        stream = await voice.stream()
        worker.kill(signal.SIGTERM)
        worker.kill(signal.SIGINT)
        await leg.asterisk.wait_packets(20)
        assert worker.process.poll() is None
        harness.vanish()
        assert await worker.wait_exit(2) == 0
        assert stream.messages[-1]["event"] == "stop"


async def test_sigterm_without_a_supervisor() -> None:
    """Row 7: an orphan that is told to go goes."""
    async with WorkerHarness({"ORPHAN_GRACE": "60"}) as harness:
        worker = await harness.spawn()
        harness.vanish()
        await until(lambda: "supervisor_lost" in worker.log, "the loss")
        worker.kill(signal.SIGTERM)
        assert await worker.wait_exit(2) == 0


async def test_stop_worker() -> None:
    """Row 7: told to stop, it ends its calls with stop and 1000, reports them, and exits with 0."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        for _ in range(3):
            harness.connected_call(worker, voice.url)
        await worker.wait(StreamStarted, 3)
        worker.send(StopWorker())
        assert await worker.wait_exit(4) == 0
        await worker.wait(CallClosed, 3)
        for stream in voice.streams:
            assert await stream.wait_closed() == 1000
            assert stream.messages[-1]["event"] == "stop"


async def test_garbage_from_the_supervisor() -> None:
    """What can't be decoded closes the channel; the worker comes back, its calls untouched."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        await voice.stream()
        worker.link.send_raw(b"\xc1garbage")
        worker.link = await harness.hello(0, 1)
        await worker.wait(HeldCall)
        await leg.asterisk.wait_packets(3)
        assert_continuous(leg.asterisk.packets)


async def test_messages_for_unknown_calls() -> None:
    """They come late when a call has just ended, and are no error."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        await voice.stream()
        harness.end_call(worker, leg)
        await worker.wait(CallClosed)
        harness.end_call(worker, leg)
        worker.send(MediaConnected(leg.call.call_sid))
        worker.send(PressDigit(leg.call.call_sid, "1"))
        worker.send(ReleaseCall(leg.call.call_sid))
        await worker.wait(WorkerStats, len(worker.link.of(WorkerStats)) + 1)
        assert len(worker.link.of(CallClosed)) == 1


async def test_refused_calls() -> None:
    """No socket, a call that is there already, a port outside the table: refused, no leak."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        await voice.stream()
        before = worker.open_fds()
        worker.send(StartCall(call_spec(call_sid="CAnosocket", port=SHAPE.start + 9)))
        worker.send(StartCall(leg.call), leg.rtp)
        worker.send(StartCall(call_spec(call_sid="CAport", port=SHAPE.end + 1)), leg.rtp)
        refused = {one.call_sid: one.reason for one in await worker.wait(CallRefused, 3)}
        assert refused["CAnosocket"] == "no RTP socket came along"
        assert refused[leg.call.call_sid] == "the call is here already"
        assert f"{SHAPE.end + 1}" in refused["CAport"]
        await until(lambda: worker.open_fds() == before, "the fds of the start")
        await leg.asterisk.wait_packets(3)


async def test_no_descriptor_left() -> None:
    """Row 10: EMFILE in the worker refuses the new call; the others and the channel go on."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        await voice.stream()
        async with no_fds_left(worker.process.pid):
            late = harness.start_call(worker, voice.url)
            [refused] = await worker.wait(CallRefused)
            assert refused.call_sid == late.call.call_sid
            await leg.asterisk.wait_packets(5)
        harness.connected_call(worker, voice.url)
        await voice.stream(1)
        assert worker.link.closed is None
        assert_continuous(leg.asterisk.packets)


async def test_media_connected_twice() -> None:
    """A supervisor that repeats itself changes nothing."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        await leg.asterisk.wait_packets(5)
        worker.send(MediaConnected(leg.call.call_sid))
        await leg.asterisk.wait_packets(10)
        assert_continuous(leg.asterisk.packets)


async def test_heartbeat() -> None:
    """Row 2: the loop that paces audio writes it ten times a second; a stopped one doesn't."""
    async with WorkerHarness() as harness:
        worker = await harness.spawn()
        beats: set[int] = set()

        def look() -> bool:
            beats.add(harness.memory.layout.heartbeat_ns(0, 0))
            return len(beats) >= 6

        await until(look, "six heartbeats", 2)
        assert max(beats) <= time.monotonic_ns()
        worker.kill(signal.SIGSTOP)
        stopped_at_ns = time.monotonic_ns()
        await until(lambda: time.monotonic_ns() > stopped_at_ns + 3e8, "0.3 s of being stopped")
        assert harness.memory.layout.heartbeat_ns(0, 0) < stopped_at_ns + 5e7


async def test_killed_workers_calls_go_on_in_another() -> None:
    """Row 1: same SSRC, next sequence number, a later timestamp; the stream is resumed."""
    calls = 12
    async with WorkerHarness() as harness, VoiceServer() as voice:
        first, second = await harness.spawn(0), await harness.spawn(1)
        legs = [harness.connected_call(first, voice.url) for _ in range(calls)]
        await first.wait(StreamStarted, calls)
        await asyncio.gather(*(leg.asterisk.wait_packets(10) for leg in legs))
        first.kill()
        await until(lambda: first.link.closed, "the end of file")
        for leg in legs:
            second.send(StartCall(leg.call, resumed=True, media_connected=True), leg.rtp)
        await second.wait(StreamStarted, calls)
        await asyncio.gather(*(leg.asterisk.wait_packets(20) for leg in legs))
        resumed = voice.streams[calls:]
        assert {stream.stream_sid for stream in resumed} == {leg.call.stream_sid for leg in legs}
        for stream in resumed:
            assert stream.messages[1]["start"]["customParameters"]["resumed"] == "1"
        for leg in legs:
            packets = leg.asterisk.packets
            assert {packet.ssrc for packet in packets} == {leg.call.ssrc}
            sequences = [(p.sequence - leg.call.first_sequence) % 65536 for p in packets]
            # The kernel may have taken one frame that the dead worker had not counted yet.
            assert sequences == sorted(sequences)
            assert len(set(sequences)) >= len(sequences) - 1
            stamps = [(p.timestamp - packets[0].timestamp) % (1 << 32) // 160 for p in packets]
            steps = {after - before for before, after in itertools.pairwise(stamps)}
            assert min(steps) >= 1, stamps
            assert max(steps) <= 50, stamps


async def test_released_call_goes_on_in_another() -> None:
    """A drain hands calls over one by one: no stop, close 1012, no gap, no frame twice."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        first, second = await harness.spawn(0), await harness.spawn(1)
        legs = [harness.connected_call(first, voice.url) for _ in range(8)]
        await first.wait(StreamStarted, 8)
        await legs[0].asterisk.wait_packets(10)
        before = first.open_fds()
        for number, leg in enumerate(legs):
            first.send(ReleaseCall(leg.call.call_sid))
            await first.wait(CallReleased, number + 1)
            second.send(StartCall(leg.call, resumed=True, media_connected=True), leg.rtp)
        await second.wait(StreamStarted, 8)
        await asyncio.gather(*(leg.asterisk.wait_packets(10) for leg in legs))
        for stream in voice.streams[:8]:
            assert await stream.wait_closed() == 1012
            assert stream.messages[-1]["event"] != "stop"
        for leg in legs:
            packets = leg.asterisk.packets
            sequences = [(p.sequence - leg.call.first_sequence) % 65536 for p in packets]
            assert sequences == list(range(len(packets)))
            stamps = [(p.timestamp - packets[0].timestamp) % (1 << 32) // 160 for p in packets]
            steps = [after - before for before, after in itertools.pairwise(stamps)]
            assert min(steps) >= 1, stamps
            assert sum(steps) - len(steps) <= 3, stamps
        assert first.link.of(StreamEnded) == []
        await until(lambda: first.open_fds() == before - 16, "the first worker's fds")
