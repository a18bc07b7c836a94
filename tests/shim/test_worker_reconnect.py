"""The voice server can't be reached, or is lost in mid-call: rows 29, 30, 36 and 37."""

import asyncio
import time

import pytest

from shim.control import CallClosed, StreamEnded, StreamStarted
from shim.pcmu import SILENT_FRAME
from tests.shim.asterisk_media import assert_continuous
from tests.shim.harness import WorkerHarness
from tests.shim.polling import until
from tests.shim.raw_server import RawConnection, RawServer, Script, close_frame
from tests.shim.voice_server import VoiceServer, unused_port

BUDGET_S = 0.8
IMPATIENT = {"STREAM_CONNECT_BUDGET": f"{BUDGET_S}", "STREAM_HANDSHAKE_TIMEOUT": "0.6"}
UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


@pytest.mark.parametrize("code", [1001, 1011, 1012, 1013, 1014])
async def test_trouble_is_followed_by_a_new_stream(code: int) -> None:
    """Row 37: same ids, `resumed`, numbers from the start; the caller hears silence meanwhile."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url, custom_parameters={"tenant": "blue"})
        first = await voice.stream()
        await leg.asterisk.speak_for(5)
        await first.wait("media", 5)
        await first.connection.close(code)
        second = await voice.stream(1)
        start = second.messages[1]
        assert start["sequenceNumber"] == "1"
        assert start["start"]["streamSid"] == leg.call.stream_sid
        assert start["start"]["callSid"] == leg.call.call_sid
        parameters = start["start"]["customParameters"]
        assert (parameters["resumed"], parameters["tenant"]) == ("1", "blue")
        assert "resumed" not in first.messages[1]["start"]["customParameters"]
        await leg.asterisk.speak_for(1)
        media = (await second.wait("media"))[0]
        assert (media["sequenceNumber"], media["media"]["chunk"]) == ("2", "1")
        assert int(media["media"]["timestamp"]) > int(first.of("media")[-1]["media"]["timestamp"])
        await second.play(b"\x05" * 320)
        await leg.asterisk.wait_heard(b"\x05" * 320)
        assert_continuous(leg.asterisk.packets)
        harness.end_call(worker, leg)
        [closed] = await worker.wait(CallClosed)
        assert closed.stats.reconnects == 1
        assert worker.link.of(StreamEnded) == []


async def test_reset_connection_is_opened_again() -> None:
    """Row 37: a connection that breaks without a close frame is opened again, too."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        harness.connected_call(worker, voice.url)
        (await voice.stream()).connection.transport.abort()
        second = await voice.stream(1)
        assert second.messages[1]["start"]["customParameters"]["resumed"] == "1"
        assert len(await worker.wait(StreamStarted, 2)) == 2


@pytest.mark.parametrize("code", [1000, 1002, 1003, 1007, 1008, 1010, 3000, 4321])
async def test_other_codes_end_the_stream(code: int) -> None:
    """A voice server that closes on purpose is not called again."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.start_call(worker, voice.url)
        await (await voice.stream()).connection.close(code)
        [ended] = await worker.wait(StreamEnded)
        assert ended == StreamEnded(leg.call.call_sid, f"closed with {code}", failed=False)
        assert len(voice.streams) == 1


async def test_close_frame_without_a_code() -> None:
    """An empty close frame is an end on purpose, and is answered with 1000."""
    answers: list[tuple[int, bytes]] = []

    async def close_at_once(connection: RawConnection) -> None:
        await connection.accept()
        await connection.send(b"\x88\x00")
        answers.extend(await connection.read_frames())

    async with WorkerHarness() as harness, RawServer(close_at_once) as voice:
        worker = await harness.spawn()
        harness.start_call(worker, voice.url)
        [ended] = await worker.wait(StreamEnded)
        assert (ended.failed, ended.reason) == (False, "closed with 1005")
        await until(lambda: answers and answers[-1][0] == 8, "the answer to the close frame")
        assert answers[-1] == (8, (1000).to_bytes(2, "big"))


async def test_voice_server_that_drops_every_stream() -> None:
    """Row 37: the budget ends it, and there is no storm of connections until then."""

    async def accept_and_drop(connection: RawConnection) -> None:
        await connection.accept()
        await connection.send(close_frame(1011))

    async with WorkerHarness(IMPATIENT) as harness, RawServer(accept_and_drop) as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        start = time.monotonic()
        [ended] = await worker.wait(StreamEnded, within_s=BUDGET_S + 3)
        assert (ended.call_sid, ended.failed) == (leg.call.call_sid, True)
        assert time.monotonic() - start > 0.3
        assert 2 <= len(voice.connections) <= 12
        assert {packet.payload for packet in leg.asterisk.packets} == {SILENT_FRAME}


async def refuse_with_503(connection: RawConnection) -> None:
    """An HTTP answer instead of an upgrade."""
    await connection.read_request()
    await connection.send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")


async def hang_up(connection: RawConnection) -> None:
    """No answer, but an end."""
    await connection.read_request()
    connection.writer.close()


async def never_answer(connection: RawConnection) -> None:
    """Row 30: the connection is there, the answer is not."""
    await connection.read_request()


async def answer_garbage(connection: RawConnection) -> None:
    """No HTTP at all, and more of it than any error should repeat."""
    await connection.read_request()
    await connection.send(b"HTTP/1.1 " + b"\x00" * 16_000 + b"\r\n\r\n")


async def accept_another_key(connection: RawConnection) -> None:
    """An upgrade for somebody else's request."""
    await connection.read_request()
    await connection.send(UPGRADE + b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")


async def redirect(connection: RawConnection) -> None:
    """Twilio follows no redirect; neither does the worker."""
    await connection.read_request()
    await connection.send(b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\n\r\n")


@pytest.mark.parametrize(
    "script",
    [refuse_with_503, hang_up, never_answer, answer_garbage, accept_another_key, redirect],
    ids=lambda script: script.__name__,
)
async def test_unreachable_within_the_budget(script: Script) -> None:
    """Rows 29 and 30: tried again, and given up when the budget is spent, not much later."""
    async with WorkerHarness(IMPATIENT) as harness, RawServer(script) as voice:
        worker = await harness.spawn()
        before = worker.open_fds()
        leg = harness.connected_call(worker, voice.url)
        start = time.monotonic()
        [ended] = await worker.wait(StreamEnded)
        assert time.monotonic() - start < BUDGET_S + 0.5
        assert (ended.call_sid, ended.failed) == (leg.call.call_sid, True)
        assert ended.reason.startswith("voice server unreachable: ")
        assert len(ended.reason) < 500
        assert len(voice.connections) >= 2
        assert_continuous(leg.asterisk.packets)
        harness.end_call(worker, leg)
        await worker.wait(CallClosed)
        await until(lambda: worker.open_fds() == before, "the fds of the start")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ws://",
        "ws://[",
        "http://127.0.0.1:1/",
        "ws://127.0.0.1:99999/",
        "ws://127.0.0.1:port/",
        "ws://name.invalid/",
        "ws://" + "a" * 70 + ".invalid/",
        "wss://\u00e9\ud7ff.invalid/\u0000",
    ],
    ids=lambda url: url[:24].encode("unicode_escape").decode() or "empty",
)
async def test_url_that_leads_nowhere(url: str) -> None:
    """Row 29: a bad name, port or scheme is a failed stream, never a call without an answer."""
    async with WorkerHarness(IMPATIENT) as harness:
        worker = await harness.spawn()
        leg = harness.start_call(worker, url)
        [ended] = await worker.wait(StreamEnded)
        assert (ended.call_sid, ended.failed) == (leg.call.call_sid, True)


async def test_refused_connection_is_tried_again() -> None:
    """Row 29: a voice server that comes up within the budget gets the call."""
    port = unused_port()
    async with WorkerHarness({"STREAM_CONNECT_BUDGET": "5"}) as harness:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, f"ws://127.0.0.1:{port}/media")
        await leg.asterisk.wait_packets(20)
        async with VoiceServer(port=port) as voice:
            stream = await voice.stream()
            await leg.asterisk.speak_for(2)
            await stream.wait("media", 2)
            [started] = await worker.wait(StreamStarted)
            assert started.connect_ms > 300


async def test_fallback_server_takes_over() -> None:
    """Row 29: when the budget for the first voice server is spent, the second one gets the call."""
    async with WorkerHarness(IMPATIENT) as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        dead = f"ws://127.0.0.1:{unused_port()}/media"
        leg = harness.start_call(worker, dead, fallback_url=voice.url)
        stream = await voice.stream()
        assert stream.stream_sid == leg.call.stream_sid
        assert worker.link.of(StreamEnded) == []


async def test_late_answer_opens_no_second_stream() -> None:
    """Row 30: an upgrade that comes after its try was given up is closed, and not announced."""
    answered: list[bytes] = []

    async def answer_late(connection: RawConnection) -> None:
        first = not answered
        answered.append(b"")
        if not first:
            await connection.read_request()
            return
        await until(lambda: len(answered) >= 2, "the second try")
        await connection.accept()
        answered[0] = await connection.reader.read()  # to the end of the connection

    environ = {"STREAM_CONNECT_BUDGET": "2", "STREAM_HANDSHAKE_TIMEOUT": "0.4"}
    async with WorkerHarness(environ) as harness, RawServer(answer_late) as voice:
        worker = await harness.spawn()
        harness.start_call(worker, voice.url)
        [ended] = await worker.wait(StreamEnded)
        assert ended.failed
        assert worker.link.of(StreamStarted) == []
        assert answered[0] == b""


async def test_call_that_ends_while_connecting() -> None:
    """Nothing of it is left: no stream is announced later, and its fds are closed."""
    release = asyncio.Event()

    async def accept_when_told(connection: RawConnection) -> None:
        await connection.read_request()
        await release.wait()

    async with WorkerHarness(IMPATIENT) as harness, RawServer(accept_when_told) as voice:
        worker = await harness.spawn()
        before = worker.open_fds()
        leg = harness.connected_call(worker, voice.url)
        await until(lambda: voice.connections and voice.connections[0].request, "the request")
        harness.end_call(worker, leg)
        [closed] = await worker.wait(CallClosed)
        assert closed.call_sid == leg.call.call_sid
        await until(lambda: worker.open_fds() == before, "the fds of the start")
        assert worker.link.of(StreamStarted) == []
        assert worker.link.of(StreamEnded) == []


async def test_lost_server_that_does_not_read() -> None:
    """Row 37: a close frame counts also from a peer that takes nothing more from us."""

    async def stuff_and_close(connection: RawConnection) -> None:
        await connection.accept()
        if len(voice.connections) == 1:
            connection.stop_reading()
            await stuffed.wait()
            await connection.send(close_frame(1011))

    stuffed = asyncio.Event()
    async with WorkerHarness() as harness, RawServer(stuff_and_close, 4096) as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        await worker.wait(StreamStarted)
        await leg.asterisk.speak_for(300, 0.002)
        stuffed.set()
        await until(lambda: len(voice.connections) == 2, "the second connection")
        await worker.wait(StreamStarted, 2)
        harness.end_call(worker, leg)
        [closed] = await worker.wait(CallClosed)
        assert closed.stats.audio_dropped > 0  # so it was stuffed
