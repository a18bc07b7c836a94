"""What a voice server should not send: rows 32, 34 and 35."""

import asyncio
import base64
import json

import pytest

from shim.control import CallClosed, StreamEnded, StreamStarted, WorkerStats
from tests.shim.asterisk_media import assert_continuous
from tests.shim.harness import WorkerHarness
from tests.shim.polling import until
from tests.shim.raw_server import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    RawConnection,
    RawServer,
    Script,
    ws_frame,
)
from tests.shim.voice_server import VoiceServer

MB = 1 << 20


async def test_bad_messages_cost_only_themselves() -> None:
    """Row 34: counted, logged once per kind and call; the call goes on, and good ones count."""
    bad = [
        b"no json",
        b"[1]",
        b'{"event":"pause"}',
        b'{"event":[]}',
        b'{"event":"media"}',
        b'{"event":"media","media":{"payload":"***"}}',
        b'{"event":"clear","streamSid":"MZ00"}',
        b'{"event":"dtmf","dtmf":{"digit":"x"}}',
        b'{"event":"dtmf","dtmf":{"digit":"' + b"1" * 70_000 + b'"}}',
        b'{"event":"mark","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ]
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        stream = await voice.stream()
        for message in bad * 3:
            await stream.connection.send(message.decode())
        for _ in range(3):
            await stream.connection.send(b"\x00\x01")
        await stream.play(b"\x01" * 161)
        await stream.mark("still here")
        [mark] = await stream.wait("mark")
        assert mark["mark"] == {"name": "still here", "playedMs": "20", "clearedMs": "0"}
        await leg.asterisk.wait_heard(b"\x01" * 161)
        assert len(voice.streams) == 1
        harness.end_call(worker, leg)
        [closed] = await worker.wait(CallClosed)
        assert closed.stats.bad_messages == 33
        events = [json.loads(line)["event"] for line in worker.log.splitlines()]
        assert sorted(event for event in events if event.startswith("bad_message")) == [
            "bad_message_base64",
            "bad_message_binary",
            "bad_message_digits",
            "bad_message_event",
            "bad_message_field",
            "bad_message_json",
            "bad_message_stream_sid",
        ]


async def test_mark_without_its_object() -> None:
    """Row 34: one public bot sends it so; it comes back with an empty name."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        harness.start_call(worker, voice.url)
        stream = await voice.stream()
        await stream.say("mark")
        assert (await stream.wait("mark"))[0]["mark"]["name"] == ""


async def test_message_in_fragments() -> None:
    """RFC 6455 section 5.4: a message may come in pieces, with a ping between them."""
    payload = base64.b64encode(b"\x01" * 320)
    message = b'{"event":"media","media":{"payload":"' + payload + b'"}}'

    async def send_pieces(connection: RawConnection) -> None:
        await connection.accept()
        await connection.send(ws_frame(TEXT, message[:50], fin=False))
        await connection.send(ws_frame(CONTINUATION, message[50:90], fin=False))
        await connection.send(ws_frame(PING, b"ping"))
        await connection.send(ws_frame(CONTINUATION, message[90:]))
        await connection.send(ws_frame(BINARY, b"\x00", fin=False) + ws_frame(CONTINUATION, b""))

    async with WorkerHarness() as harness, RawServer(send_pieces) as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        await leg.asterisk.wait_heard(b"\x01" * 320)
        harness.end_call(worker, leg)
        [closed] = await worker.wait(CallClosed)
        assert closed.stats.bad_messages == 1  # the binary one


async def huge_message(connection: RawConnection) -> None:
    """A message of 100 MB."""
    await connection.send(b"\x81\x7f" + (100 * MB).to_bytes(8, "big"))
    for _ in range(100):
        await connection.send(b"x" * MB)


async def endless_fragments(connection: RawConnection) -> None:
    """Pieces of a message, none of them the last."""
    await connection.send(ws_frame(TEXT, b"[" * 60_000, fin=False))
    while True:
        await connection.send(ws_frame(CONTINUATION, b"[" * 60_000, fin=False))


async def masked_frame(connection: RawConnection) -> None:
    """RFC 6455 section 5.1: a server must not mask."""
    await connection.send(b"\x81\x84abcd" + b"1234")


async def stray_continuation(connection: RawConnection) -> None:
    """The rest of a message that never began."""
    await connection.send(ws_frame(CONTINUATION, b"rest"))


@pytest.mark.parametrize(
    ("attack", "code"),
    [
        (huge_message, 1009),
        (endless_fragments, 1009),
        (masked_frame, 1002),
        (stray_continuation, 1002),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
async def test_attack_is_closed(attack: Script, code: int) -> None:
    """Row 32: closed with 1009 (or 1002), memory +5 MB at most; then the stream is opened again."""
    codes: list[int] = []

    async def strike_once(connection: RawConnection) -> None:
        await connection.accept()
        if len(voice.connections) > 1:
            await connection.read_frames()
            return
        striking = asyncio.create_task(attack(connection))
        frames = await connection.read_frames()
        codes.extend(int.from_bytes(data[:2], "big") for opcode, data in frames if opcode == CLOSE)
        striking.cancel()
        await asyncio.gather(striking, return_exceptions=True)

    async with WorkerHarness() as harness, RawServer(strike_once) as voice:
        worker = await harness.spawn()
        async with VoiceServer() as quiet:
            harness.start_call(worker, quiet.url)
            await quiet.stream()
        before = worker.memory_bytes("VmHWM")
        leg = harness.connected_call(worker, voice.url)
        await worker.wait(StreamStarted, 3)
        await until(lambda: codes, "the close frame")
        assert codes == [code]
        assert worker.memory_bytes("VmHWM") - before < 5 * MB
        assert_continuous(leg.asterisk.packets)


async def test_compressed_frames_are_bad_messages() -> None:
    """Row 32: nothing is ever inflated: such a frame is no JSON."""

    async def strike(connection: RawConnection) -> None:
        await connection.accept()
        # RSV1 says compressed, though nothing of that kind was agreed on.
        await connection.send(ws_frame(TEXT, b"\x00" * 500_000, flags=0x40) * 4)

    async with WorkerHarness() as harness, RawServer(strike) as voice:
        worker = await harness.spawn()
        before = worker.memory_bytes("VmHWM")
        leg = harness.start_call(worker, voice.url)
        await until(
            lambda: any(
                stats.totals.stats.bad_messages == 4 for stats in worker.link.of(WorkerStats)
            ),
            "all four are counted",
        )
        assert worker.log.count("bad_message_json") == 1
        harness.end_call(worker, leg)
        [closed] = await worker.wait(CallClosed)
        assert closed.stats.bad_messages == 4
        assert worker.memory_bytes("VmHWM") - before < 5 * MB


async def test_ten_minutes_in_a_second() -> None:
    """Row 35: it all waits in bounded memory, nothing is lost; clear silences at once."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        before = worker.memory_bytes("VmHWM")
        leg = harness.connected_call(worker, voice.url)
        stream = await voice.stream()
        for _ in range(10):
            await stream.play(b"\x01" * 480_000, piece_bytes=16_000)
            await stream.mark("minute")
        await until(lambda: leg.asterisk.heard, "the audio's begin")
        await stream.clear()
        marks = await stream.wait("mark", 10)
        played = sum(int(mark["mark"]["playedMs"]) for mark in marks)
        cleared = sum(int(mark["mark"]["clearedMs"]) for mark in marks)
        assert played + cleared == 600_000
        await leg.asterisk.wait_packets(3)
        assert leg.asterisk.heard == b"\x01" * played * 8
        assert worker.memory_bytes("VmHWM") - before < 16 * MB


async def test_more_than_may_wait() -> None:
    """Row 35: over the limit the worker stops to read, and goes on when there is room: no loss."""
    seconds = 3
    audio = bytes(number % 251 for number in range(seconds * 8000))
    async with WorkerHarness({"STREAM_BUFFER_SECONDS": "1"}) as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        stream = await voice.stream()
        await stream.play(audio, piece_bytes=1600)
        await stream.mark("end")
        await until(lambda: "playout_full" in worker.log, "the warning")
        await stream.wait("mark")
        await leg.asterisk.wait_heard(audio)
        assert worker.log.count("playout_full") == 1


async def test_reading_pauses_at_the_limit() -> None:
    """Row 35: what comes after the limit stays with its sender, not in the worker's memory."""
    async with WorkerHarness({"STREAM_BUFFER_SECONDS": "2"}) as harness:
        written = 0

        async def pour(connection: RawConnection) -> None:
            nonlocal written
            await connection.accept()
            payload = base64.b64encode(b"\x01" * 8000)
            message = ws_frame(TEXT, b'{"event":"media","media":{"payload":"' + payload + b'"}}')
            while True:
                await connection.send(message)
                written += len(message)

        async with RawServer(pour) as voice:
            worker = await harness.spawn()
            before = worker.memory_bytes("VmHWM")
            leg = harness.connected_call(worker, voice.url)
            await until(lambda: "playout_full" in worker.log, "the warning")
            await leg.asterisk.wait_packets(50)
            first = written
            await leg.asterisk.wait_packets(50)
            # A second of audio has room in a second, and what the kernel's buffers grow by.
            assert written - first < 8 * MB
            assert worker.memory_bytes("VmHWM") - before < 5 * MB
            assert worker.link.of(StreamEnded) == []
