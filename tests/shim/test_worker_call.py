"""A whole call through a real worker: what the voice server sees, and what Asterisk hears."""

import asyncio
import os

from shim.control import (
    PROTOCOL_VERSION,
    CallClosed,
    PressDigit,
    SendDigits,
    StreamEnded,
    StreamStarted,
    WorkerStats,
)
from shim.pcmu import SILENT_FRAME
from tests.shim.asterisk_media import assert_continuous
from tests.shim.harness import WorkerHarness
from tests.shim.polling import until
from tests.shim.voice_server import VoiceServer


async def test_hello_names_process_and_cpu() -> None:
    """A worker introduces itself with its number, its pid and the one CPU it stays on."""
    async with WorkerHarness() as harness:
        cpu = max(os.sched_getaffinity(0))
        worker = harness.launch(2, cpu)
        hello = (await harness.hello(2)).hello
        assert hello is not None
        assert (hello.worker, hello.seat, hello.pid) == (2, 0, worker.process.pid)
        assert (hello.cpus, hello.calls, hello.version) == ([cpu], 0, PROTOCOL_VERSION)
        assert hello.table_id == harness.memory.layout.table_id


async def test_messages_to_the_voice_server() -> None:
    """Connected, start and media have Twilio's shapes, and are numbered from "1" on."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url, custom_parameters={"tenant": "blue"})
        stream = await voice.stream()
        spoken = await leg.asterisk.speak_for(5)
        media = await stream.wait("media", 5)
        assert stream.messages[0] == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
        assert stream.messages[1]["sequenceNumber"] == "1"
        assert stream.messages[1]["start"] == {
            "accountSid": leg.call.account_sid,
            "streamSid": leg.call.stream_sid,
            "callSid": leg.call.call_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {"source": "asterisk-shim", "format": "ulaw", "tenant": "blue"},
        }
        assert [m["sequenceNumber"] for m in media] == ["2", "3", "4", "5", "6"]
        assert [m["media"]["chunk"] for m in media] == ["1", "2", "3", "4", "5"]
        assert {m["media"]["track"] for m in media} == {"inbound"}
        assert {m["streamSid"] for m in media} == {leg.call.stream_sid}
        first, *later = (int(m["media"]["timestamp"]) for m in media)
        assert [ms - first for ms in later] == [20, 40, 60, 80]
        assert stream.payloads() == spoken
        [started] = await worker.wait(StreamStarted)
        assert 0 < started.connect_ms < 1000


async def test_cadence_when_idle() -> None:
    """50 packets a second of silence (0xFF), numbered without a break from the first on."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        await leg.asterisk.wait_packets(1)
        packets = await leg.asterisk.wait_packets(60)
        first, last = leg.asterisk.arrivals[0], leg.asterisk.arrivals[60]
        seconds = (last.at_ns - first.at_ns) / 1e9
        assert 1.1 < seconds < 1.35  # 60 frames take 1.2 s
        assert_continuous(leg.asterisk.packets)
        assert {packet.payload for packet in packets} == {SILENT_FRAME}
        assert first.packet.sequence == leg.call.first_sequence
        assert first.packet.ssrc == leg.call.ssrc
        assert (first.packet.timestamp - leg.call.first_timestamp) % (1 << 32) % 160 == 0
        assert harness.memory.layout.frames_out(leg.call.port) >= 61


async def test_no_packet_before_asterisk_is_known() -> None:
    """A call without a media address is silent, though its stream is open already."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.start_call(worker, voice.url)
        leg.asterisk.speak(SILENT_FRAME)  # waits in the socket, and is drained later
        stream = await voice.stream()
        await stream.play(b"\x01" * 320)
        await worker.wait(WorkerStats)
        assert leg.asterisk.packets == []
        harness.connect_media(worker, leg)
        await leg.asterisk.wait_heard(b"\x01" * 320)
        leg.asterisk.speak(b"\x02" * 160)
        await stream.wait("media")
        assert stream.payloads() == [b"\x02" * 160]


async def test_audio_reaches_asterisk_unchanged() -> None:
    """What the voice server sends in odd pieces is what Asterisk gets; the last frame is padded."""
    audio = bytes(range(256)) * 8 + b"end"
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        stream = await voice.stream()
        await stream.play(audio[:1600])  # enough to play until the rest is there
        await stream.play(audio[1600:], piece_bytes=33)
        await leg.asterisk.wait_heard(audio)
        await leg.asterisk.wait_packets(2)
        assert leg.asterisk.packets[-1].payload == SILENT_FRAME
        assert_continuous(leg.asterisk.packets)


async def test_mark_without_audio_returns_at_once() -> None:
    """With nothing to play, a mark comes straight back, also before Asterisk is known."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        harness.start_call(worker, voice.url)
        stream = await voice.stream()
        await stream.mark("idle")
        [mark] = await stream.wait("mark")
        assert mark["mark"] == {"name": "idle", "playedMs": "0", "clearedMs": "0"}
        assert mark["sequenceNumber"] == "2"


async def test_marks_return_with_their_audio() -> None:
    """A mark comes back in the tick that plays its audio's last piece, equal names included."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        stream = await voice.stream()
        await stream.play(b"\x01" * 1600)
        await stream.mark("part")
        await stream.play(b"\x02" * 400)
        await stream.mark("part")
        await stream.wait("mark", 1)
        # The mark leaves after the frame, in the same millisecond.
        await until(lambda: len(leg.asterisk.heard) >= 1600, "the first piece")
        assert len(leg.asterisk.heard) <= 1600 + 2 * 160
        marks = await stream.wait("mark", 2)
        assert [mark["mark"] for mark in marks] == [
            {"name": "part", "playedMs": "200", "clearedMs": "0"},
            {"name": "part", "playedMs": "50", "clearedMs": "0"},
        ]


async def test_clear_silences_and_returns_marks() -> None:
    """After `clear` not one more frame of the old audio is played; its marks return in order."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        stream = await voice.stream()
        for name in ("one", "two"):
            await stream.play(b"\x01" * 8000)
            await stream.mark(name)
        await until(lambda: leg.asterisk.heard, "the audio's begin")
        await stream.clear()
        marks = await stream.wait("mark", 2)
        assert [mark["mark"]["name"] for mark in marks] == ["one", "two"]
        played, cleared = (
            sum(int(mark["mark"][field]) for mark in marks) for field in ("playedMs", "clearedMs")
        )
        assert played + cleared == 2000
        await stream.play(b"\x03" * 160)
        # What was heard is what had been played when the clear came, and then the new audio.
        await leg.asterisk.wait_heard(b"\x01" * played * 8 + b"\x03" * 160)
        await leg.asterisk.wait_packets(5)
        assert len(leg.asterisk.heard) == played * 8 + 160
        assert_continuous(leg.asterisk.packets)


async def test_digits_both_ways() -> None:
    """A key of the caller becomes a dtmf message; a dtmf message is passed to the supervisor."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.start_call(worker, voice.url)
        stream = await voice.stream()
        worker.send(PressDigit(leg.call.call_sid, "#"))
        [dtmf] = await stream.wait("dtmf")
        assert dtmf == {
            "event": "dtmf",
            "sequenceNumber": "2",
            "streamSid": leg.call.stream_sid,
            "dtmf": {"track": "inbound_track", "digit": "#"},
        }
        await stream.say("dtmf", dtmf={"digit": "12*"})
        assert await worker.wait(SendDigits) == [SendDigits(leg.call.call_sid, "12*")]


async def test_end_of_a_call() -> None:
    """At its end: stop is the last message, then close 1000; the counters are reported."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        stream = await voice.stream()
        await leg.asterisk.speak_for(10)
        await stream.play(b"\x01" * 800)
        await leg.asterisk.wait_heard(b"\x01" * 800)
        await stream.wait("media", 10)
        harness.end_call(worker, leg)
        assert await stream.wait_closed() == 1000
        assert stream.messages[-1] == {
            "event": "stop",
            "sequenceNumber": "12",
            "streamSid": leg.call.stream_sid,
            "stop": {"accountSid": leg.call.account_sid, "callSid": leg.call.call_sid},
        }
        [closed] = await worker.wait(CallClosed)
        assert closed.call_sid == leg.call.call_sid
        stats = closed.stats
        assert (stats.frames_in, stats.lost, stats.malformed, stats.audio_dropped) == (10, 0, 0, 0)
        assert (stats.played_ms, stats.bad_messages, stats.reconnects) == (100, 0, 0)
        await until(lambda: len(leg.asterisk.packets) == stats.frames_out, "the last packet")
        assert worker.link.of(StreamEnded) == []


async def test_voice_server_ends_the_stream() -> None:
    """A close with 1000 ends the stream without failure; the caller hears silence until told."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        stream = await voice.stream()
        await stream.connection.close(1000)
        [ended] = await worker.wait(StreamEnded)
        assert ended == StreamEnded(leg.call.call_sid, "closed with 1000", failed=False)
        packets = await leg.asterisk.wait_packets(10)
        assert {packet.payload for packet in packets} == {SILENT_FRAME}
        assert len(voice.streams) == 1
        harness.end_call(worker, leg)
        await worker.wait(CallClosed)


async def test_nothing_stays_open_after_many_calls() -> None:
    """After 20 calls at once have ended in all ways, the worker's fds are back at their start."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        before = worker.open_fds()
        legs = [harness.connected_call(worker, voice.url) for _ in range(20)]
        await worker.wait(StreamStarted, 20)
        await asyncio.gather(*(leg.asterisk.speak_for(10) for leg in legs))
        assert worker.open_fds() == before + 40
        for stream in voice.streams[:5]:
            await stream.connection.close(1000)
        await worker.wait(StreamEnded, 5)
        for leg in legs:
            harness.end_call(worker, leg)
        closed = await worker.wait(CallClosed, 20)
        assert {message.call_sid for message in closed} == {leg.call.call_sid for leg in legs}
        assert [message.stats.frames_in for message in closed] == [10] * 20
        await until(lambda: worker.open_fds() == before, "the fds of the start")
        before_stats = len(worker.link.of(WorkerStats))
        stats = (await worker.wait(WorkerStats, before_stats + 1))[-1]
        assert (stats.calls, stats.totals.stats.frames_in) == (0, 200)
