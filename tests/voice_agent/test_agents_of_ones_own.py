"""Agents of other kinds over real WebSockets: what the seam promises them, and when they fail."""

import asyncio
from collections.abc import Iterable

import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from tests.voice_agent.conftest import serving
from tests.voice_agent.stream_client import (
    CALL_SID,
    StreamClient,
    dtmf_message,
    stop_message,
    until,
)
from voice_agent.agent import Act, Action, Agent, CallMetadata, Clear, EndCall, Mark, Play
from voice_agent.mulaw import silence
from voice_agent.outbox import CHUNK_BYTES, LIMIT_BYTES
from voice_agent.sounds import BEEP


class RecordingAgent(Agent):
    """Speaks when it likes, and writes down what happens to it."""

    def __init__(self) -> None:
        self.happened: list[str] = []

    def on_start(self, call: CallMetadata) -> Iterable[Action]:
        self.happened.append(f"start {call.call_sid} {call.parameters['who']}")
        return ()

    def on_audio(self, frame: bytes) -> Iterable[Action]:
        self.happened.append(f"audio {len(frame)}")
        return ()

    def on_dtmf(self, digit: str) -> Iterable[Action]:
        self.happened.append(f"dtmf {digit}")
        yield Play(b"\x11")
        yield Mark("played")

    def on_mark(self, name: str) -> Iterable[Action]:
        self.happened.append(f"mark {name}")
        return ()

    def on_stop(self) -> None:
        self.happened.append("stop")

    async def run(self, act: Act) -> None:
        act(Play(b"\x22\x33"))
        act(Mark("hello"))
        try:
            await asyncio.Event().wait()
        finally:
            self.happened.append("cancelled")


async def test_an_agent_hears_everything_and_speaks_on_its_own() -> None:
    """In order; its own work is cancelled at the end, and `on_stop` comes last."""
    agent = RecordingAgent()
    async with serving(lambda: agent) as server, StreamClient(server.port) as client:
        await client.begin(who="me")
        assert await client.hear_and_return() == b"\x22\x33"
        await client.speak(silence(20))
        await client.send(dtmf_message("*"))
        assert await client.hear_and_return() == b"\x11"
        await client.send(stop_message())
        await client.closed()
    assert agent.happened == [
        f"start {CALL_SID} me",
        "mark hello",
        "audio 160",
        "dtmf *",
        "mark played",
        "cancelled",
        "stop",
    ]


class FailingAgent(Agent):
    """Fails in a handler or in its own work, as the `fail` parameter of the stream says."""

    def __init__(self) -> None:
        self._fail = ""

    def on_start(self, call: CallMetadata) -> Iterable[Action]:
        self._fail = call.parameters["fail"]
        if self._fail == "on_start":
            raise RuntimeError(self._fail)
        return ()

    def on_dtmf(self, digit: str) -> Iterable[Action]:
        if self._fail == "on_dtmf":
            raise RuntimeError(self._fail)
        return (Play(BEEP), Mark("beep"))

    async def run(self, act: Act) -> None:
        if self._fail == "run":
            raise RuntimeError(self._fail)


@pytest.mark.parametrize("where", ["on_start", "on_dtmf", "run"])
async def test_an_agent_that_fails_ends_its_own_call_only(where: str) -> None:
    """With 1011, logged with its traceback and counted; the other call goes on."""
    with capture_logs(processors=[merge_contextvars]) as logs:
        async with (
            serving(FailingAgent) as server,
            StreamClient(server.port) as good,
            StreamClient(server.port) as bad,
        ):
            await good.begin(fail="never")
            await bad.begin(fail=where)
            await bad.send(dtmf_message("1"))
            assert await bad.closed() == (1011, "the agent failed")
            await good.send(dtmf_message("1"))
            assert await good.hear_and_return() == BEEP
            assert server.health.calls_failed == 1
    [failed] = [entry for entry in logs if entry["event"] == "call_failed"]
    assert failed["call_id"] == CALL_SID
    assert failed["exc_info"]


class TalkativeAgent(Agent):
    """Says more than is allowed at once, and stops at a key."""

    def __init__(self) -> None:
        self.stopped = False

    def on_start(self, call: CallMetadata) -> Iterable[Action]:
        return Play(silence(1000) * (LIMIT_BYTES // 8000)), Play(BEEP), Play(BEEP)

    def on_dtmf(self, digit: str) -> Iterable[Action]:
        self.stopped = True
        return Clear(), EndCall()


async def test_a_peer_that_does_not_read_is_still_heard() -> None:
    """Ten minutes of audio wait, more is dropped with one warning, and a clear overtakes them."""
    agent = TalkativeAgent()
    heard = 0
    with capture_logs() as logs:
        async with serving(lambda: agent) as server, StreamClient(server.port) as client:
            await client.begin()
            await client.send(dtmf_message("1"))
            await until(lambda: agent.stopped)
            while (message := await client.receive())["event"] == "media":
                heard += 1
            assert message["event"] == "clear"
            assert await client.closed() == (1000, "")
    assert heard < LIMIT_BYTES / CHUNK_BYTES / 2
    assert [entry["kind"] for entry in logs if entry["event"] == "message_dropped"] == [
        "outbox_full"
    ]
