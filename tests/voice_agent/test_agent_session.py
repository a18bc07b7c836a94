"""Calls over real WebSockets: the offline agent, and peers that don't behave."""

import asyncio
from typing import Any

import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from tests.voice_agent.stream_client import (
    CALL_SID,
    CONNECTED,
    STREAM_SID,
    StreamClient,
    dtmf_message,
    mark_message,
    media_message,
    start_message,
    stop_message,
    until,
)
from voice_agent import agent_session
from voice_agent.mulaw import silence
from voice_agent.server import VoiceServer
from voice_agent.sounds import BEEP, GOODBYE, GREETING, tone


async def talk(port: int, frequency_hz: float) -> None:
    """One call: be greeted, say a tone, hear just that tone, hang up."""
    said = tone(frequency_hz, 1000)
    async with StreamClient(port) as client:
        await client.begin()
        assert await client.hear_and_return() == GREETING
        await client.speak(silence(200) + said + silence(400))
        assert await client.hear_and_return() == silence(100) + said + silence(100)
        await client.send(stop_message())
        assert await client.closed() == (1000, "")


async def test_a_call_is_greeted_and_repeated(server: VoiceServer) -> None:
    """The caller's second of speech comes back byte by byte, 100 ms around it included."""
    await talk(server.port, 440.0)


async def test_fifty_calls_at_once_hear_their_own_tone(server: VoiceServer) -> None:
    """And none of another call's."""
    async with asyncio.timeout(30), asyncio.TaskGroup() as calls:
        for number in range(50):
            calls.create_task(talk(server.port, 300.0 + 40 * number))
    await until(lambda: server.health.calls == 0)
    assert (server.health.calls_total, server.health.calls_failed) == (50, 0)


async def test_speaking_interrupts_the_agent(server: VoiceServer) -> None:
    """The audio that waits is cleared, and the caller's words are answered."""
    said = tone(600.0, 300)
    async with StreamClient(server.port) as client:
        await client.begin()
        _, greeting_mark = await client.hear()
        await client.speak(said)
        assert await client.receive() == {"event": "clear", "streamSid": STREAM_SID}
        await client.send(mark_message(greeting_mark))
        await client.speak(silence(400))
        assert await client.hear_and_return() == said + silence(100)


async def test_hash_ends_the_call_after_the_goodbye(server: VoiceServer) -> None:
    """Only when the mark behind the goodbye came back, thus when it was heard."""
    async with StreamClient(server.port) as client:
        await client.begin()
        await client.hear_and_return()
        await client.send(dtmf_message("#"))
        assert (await client.receive())["event"] == "clear"
        goodbye, mark = await client.hear()
        assert goodbye == GOODBYE
        await (await client.websocket.ping())
        assert client.websocket.close_code is None
        await client.send(mark_message(mark))
        assert await client.closed() == (1000, "")


async def test_digits_beep(server: VoiceServer) -> None:
    """Also on a resumed stream, where nobody is greeted."""
    async with StreamClient(server.port) as client:
        await client.begin(resumed="1")
        await client.send(dtmf_message("3"))
        assert await client.hear_and_return() == BEEP * 3


async def test_a_dropped_connection_ends_the_call(server: VoiceServer) -> None:
    """Without `stop`, without a close frame."""
    with capture_logs() as logs:
        async with StreamClient(server.port) as client:
            await client.begin()
            await client.hear()
            client.websocket.transport.abort()
            await until(lambda: server.health.calls == 0)
    assert [entry["ended_by"] for entry in logs if entry["event"] == "call_ended"] == ["disconnect"]
    assert server.health.calls_failed == 0


async def test_logs_say_which_call_but_not_who(server: VoiceServer) -> None:
    """Every line of a call has its id; parameters, which may be phone numbers, are in none."""
    with capture_logs(processors=[merge_contextvars]) as logs:
        async with StreamClient(server.port) as client:
            await client.begin(caller="+15550100")
            await client.hear()
            await client.send(dtmf_message("7"), stop_message())
            await client.closed()
        await until(lambda: server.health.calls == 0)
    assert [entry["event"] for entry in logs] == ["call_started", "call_ended"]
    assert {entry["call_id"] for entry in logs} == {CALL_SID}
    assert "+15550100" not in str(logs)


async def test_bad_messages_are_dropped_with_one_warning_per_kind(server: VoiceServer) -> None:
    """And the call goes on."""
    with capture_logs(processors=[merge_contextvars]) as logs:
        async with StreamClient(server.port) as client:
            await client.begin()
            await client.hear_and_return()
            for _ in range(3):
                await client.websocket.send(b"\x00\x01")
                await client.websocket.send("no JSON")
                await client.send(
                    {"event": "surprise", "streamSid": STREAM_SID},
                    {"event": "media", "streamSid": STREAM_SID},
                    mark_message("x") | {"streamSid": "MZother"},
                )
            await client.send(dtmf_message("1"))
            assert await client.hear_and_return() == BEEP
    warnings = [entry for entry in logs if entry["log_level"] == "warning"]
    kinds = [entry["kind"] for entry in warnings]
    assert kinds == ["binary", "json", "event", "field", "stream_sid"]
    assert {entry["call_id"] for entry in warnings} == {CALL_SID}
    await until(lambda: server.health.calls == 0)
    assert server.health.calls_failed == 0


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([media_message(b"\xff")], "media before start"),
        ([CONNECTED, stop_message()], "stop before start"),
        ([CONNECTED, start_message(), start_message()], "start after start"),
        ([CONNECTED, start_message(), CONNECTED], "connected after start"),
    ],
)
async def test_a_wrong_order_closes_the_stream(
    server: VoiceServer, messages: list[dict[str, Any]], reason: str
) -> None:
    """With 1002 and a reason; it is no failure of ours."""
    async with StreamClient(server.port) as client:
        await client.send(*messages)
        assert await client.closed() == (1002, reason)
    await until(lambda: server.health.calls == 0)
    assert server.health.calls_failed == 0


async def test_an_audio_format_that_twilio_does_not_have_is_refused(server: VoiceServer) -> None:
    """Its `start` is dropped, so that the audio comes before any `start`."""
    start = start_message()
    start["start"]["mediaFormat"]["sampleRate"] = 16000
    with capture_logs() as logs:
        async with StreamClient(server.port) as client:
            await client.send(CONNECTED, start, media_message(b"\xff"))
            assert await client.closed() == (1002, "media before start")
    assert "start.mediaFormat.sampleRate" in logs[0]["detail"]


async def test_a_connection_without_start_is_closed(
    server: VoiceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when `connected` comes again and again."""
    monkeypatch.setattr(agent_session, "START_TIMEOUT_S", 0.1)
    async with StreamClient(server.port) as client:
        await client.send(CONNECTED, CONNECTED)
        assert await client.closed() == (1002, "no start within 0.1 s")


async def test_a_huge_message_closes_the_stream(server: VoiceServer) -> None:
    """With 1009, before it fills the memory."""
    async with StreamClient(server.port) as client:
        await client.begin()
        await client.hear()
        await client.websocket.send("x" * 100_000)
        code, _ = await client.closed()
        assert code == 1009
