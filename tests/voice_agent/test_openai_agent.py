"""Whole calls with the Realtime agent: a real stream on one side, the stand-in on the other."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from openai.types.realtime import (
    ConversationItemCreateEvent,
    ConversationItemDeleteEvent,
    ConversationItemTruncateEvent,
    InputAudioBufferAppendEvent,
    ResponseCancelEvent,
    ResponseCreateEvent,
    SessionUpdateEvent,
)
from pydantic import BaseModel
from structlog.testing import capture_logs

from loadtest.realtime_stand_in import TRANSCRIPT, Plan, RealtimeStandIn, Session
from tests.voice_agent.conftest import serving
from tests.voice_agent.stream_client import (
    StreamClient,
    dtmf_message,
    mark_message,
    stop_message,
    until,
)
from voice_agent.config import Config
from voice_agent.mulaw import silence
from voice_agent.openai_agent import OpenAiAgents
from voice_agent.sounds import tone
from voice_agent.tools import ToolCall, Tools, standard_tools

CLIENT_EVENTS: dict[str, type[BaseModel]] = {
    "session.update": SessionUpdateEvent,
    "input_audio_buffer.append": InputAudioBufferAppendEvent,
    "conversation.item.create": ConversationItemCreateEvent,
    "conversation.item.delete": ConversationItemDeleteEvent,
    "conversation.item.truncate": ConversationItemTruncateEvent,
    "response.create": ResponseCreateEvent,
    "response.cancel": ResponseCancelEvent,
}
ANSWER = tone(520, 600)


class Call:
    """A call in progress: the caller, the stand-in and the agents."""

    def __init__(self, client: StreamClient, api: RealtimeStandIn, agents: OpenAiAgents) -> None:
        self.client = client
        self.api = api
        self.agents = agents

    @property
    def session(self) -> Session:
        """The newest session."""
        return self.api.sessions[-1]

    async def next_mark(self) -> str:
        """The name of the next mark; audio before it is passed over."""
        return (await self.client.hear())[1]

    async def hear(self, length_bytes: int) -> bytes:
        """Audio of a length, all of it played in time: its marks are returned."""
        audio = b""
        while len(audio) < length_bytes:
            audio += await self.client.hear_and_return()
        return audio

    async def speak(self, duration_ms: int = 600) -> None:
        """The caller says something and pauses."""
        await self.client.speak(tone(440, duration_ms) + silence(600))

    async def returned(self, name: str, played_ms: int, cleared_ms: int) -> None:
        """Return a mark as the open telephony stack does."""
        message = mark_message(name)
        message["mark"] |= {"playedMs": str(played_ms), "clearedMs": str(cleared_ms)}
        await self.client.send(message)


@asynccontextmanager
async def calling(
    *plans: Plan, tools: Tools | None = None, record_dir: str = "", begin: bool = True
) -> AsyncIterator[Call]:
    """A call that is up; every client event must be valid, and responses must not overlap."""
    async with RealtimeStandIn() as api:
        api.plans.extend(plans)
        config = Config(
            openai_url=api.url,
            openai_api_key="sk-test",
            voice_agent_record_dir=record_dir,
            openai_tool_timeout_s=0.2,
        )
        agents = OpenAiAgents(config, tools)
        async with serving(agents) as server, StreamClient(server.port) as client:
            if begin:
                await client.begin()
            yield Call(client, api, agents)
        for session in api.sessions:
            for event in session.received:
                CLIENT_EVENTS[event["type"]].model_validate(event, strict=True)
        assert api.overlaps == 0


async def test_a_greeting_and_an_answer() -> None:
    """µ-law goes both ways as it is, and the session is set up for it."""
    async with calling() as call:
        assert await call.hear(len(ANSWER)) == ANSWER
        await call.speak()
        assert await call.hear(len(ANSWER)) == ANSWER
        session = call.session.received[0]["session"]
        assert session["audio"]["input"]["format"] == {"type": "audio/pcmu"}
        assert session["audio"]["output"]["format"] == {"type": "audio/pcmu"}
        assert {tool["name"] for tool in session["tools"]} == {"end_call", "send_digits"}
        assert len(call.session.of("response.create")) == 2
        assert call.session.heard_bytes == 1200 * 8


async def test_an_interruption_truncates_at_what_was_heard() -> None:
    """`clear`, then cancel, then truncate at the played ms; the answer comes after that."""
    async with calling(Plan(ANSWER, held=True)) as call:
        names = [await call.next_mark() for _ in range(7)]
        await call.returned(names[0], 20, 0)
        await call.client.speak(tone(440, 400))
        assert (await call.client.receive())["event"] == "clear"
        await call.returned(names[1], 80, 0)
        await call.returned(names[2], 33, 67)
        for name in names[3:]:
            await call.returned(name, 0, 100)
        await call.client.speak(silence(600))
        assert await call.hear(len(ANSWER)) == ANSWER
        [truncated] = call.session.of("conversation.item.truncate")
        assert truncated["audio_end_ms"] == 133
        assert truncated["item_id"] == names[0].partition("/")[0]
        assert call.session.kinds()[-3:] == [
            "response.cancel",
            "conversation.item.truncate",
            "response.create",
        ]


async def test_without_played_ms_marks_say_what_was_heard() -> None:
    """Twilio's own marks: what was returned before the clear counts, what came after doesn't."""
    async with calling(Plan(ANSWER)) as call:
        names = [await call.next_mark() for _ in range(7)]
        await call.client.send(*(mark_message(name) for name in names[:3]))
        await call.client.speak(tone(440, 400))
        assert (await call.client.receive())["event"] == "clear"
        await call.client.send(*(mark_message(name) for name in names[3:]))
        await until(lambda: bool(call.session.of("conversation.item.truncate")))
        assert call.session.of("conversation.item.truncate")[0]["audio_end_ms"] == 200
        assert not call.session.of("response.cancel"), "the response was done"


async def test_a_false_start_does_not_cut_the_agent_off() -> None:
    """A noise of 120 ms is forgotten by the model too, and gets no answer."""
    async with calling(Plan(ANSWER)) as call:
        names = [await call.next_mark() for _ in range(7)]
        await call.speak(120)
        await until(lambda: bool(call.session.of("conversation.item.delete")))
        await call.client.send(*(mark_message(name) for name in names))
        await call.speak()
        assert await call.hear(len(ANSWER)) == ANSWER
        assert "conversation.item.truncate" not in call.session.kinds()
        assert len(call.session.of("response.create")) == 2


async def test_late_audio_of_a_cancelled_answer_is_not_heard() -> None:
    """The caller speaks before the answer came: only the next one is heard."""
    async with calling(Plan(tone(300, 300), late_s=30), Plan(ANSWER)) as call:
        await until(lambda: bool(call.api.sessions and call.session.active))
        await call.client.speak(tone(440, 400))
        assert (await call.client.receive())["event"] == "clear"
        await call.client.speak(silence(600))
        assert await call.hear(len(ANSWER)) == ANSWER


@pytest.mark.parametrize(
    "plan",
    [Plan(failed="rate_limit_exceeded"), Plan(refused="rate_limit_exceeded")],
    ids=["failed", "refused"],
)
async def test_a_failed_response_is_asked_for_again(plan: Plan) -> None:
    """After a wait, and without the caller having to say it again."""
    async with calling(plan) as call:
        assert await call.hear(len(ANSWER)) == ANSWER


@pytest.mark.parametrize("over", ["lost", "expired"])
async def test_a_session_that_ends_is_followed_by_one_that_knows_the_conversation(
    over: str,
) -> None:
    """What both sides said so far is told to it, and the call goes on."""
    plans = Plan(ANSWER, "Good morning."), Plan(over=over), Plan(ANSWER, "Welcome back.")
    async with calling(*plans) as call:
        await call.hear(len(ANSWER))
        await call.speak()
        assert await call.hear(len(ANSWER)) == ANSWER
        assert len(call.api.sessions) == 2
        texts = [
            (event["item"]["role"], event["item"]["content"][0]["text"])
            for event in call.session.of("conversation.item.create")
        ]
        assert texts == [("assistant", "Good morning."), ("user", TRANSCRIPT)]


async def test_a_resumed_stream_continues_its_conversation() -> None:
    """No second greeting; the new session is told the first part."""
    async with calling(Plan(ANSWER, "Good morning.")) as call:
        await call.hear(len(ANSWER))
        await call.client.websocket.close()
        await until(lambda: len(call.agents.kept) == 1)
        port = call.client.websocket.remote_address[1]
        async with StreamClient(port) as again:
            await again.begin(resumed="1")
            resumed = Call(again, call.api, call.agents)
            await until(lambda: len(call.api.sessions) == 2)
            await resumed.speak()
            assert await resumed.hear(len(ANSWER)) == ANSWER
        said = call.session.of("conversation.item.create")
        assert said[0]["item"]["content"][0]["text"] == "Good morning."
        assert len(call.session.of("response.create")) == 1


async def test_end_call_waits_until_the_goodbye_was_heard() -> None:
    """The model is asked for a goodbye without tools; its last mark ends the call."""
    async with calling(Plan(tool=("end_call", "{}")), Plan(ANSWER, "Bye.")) as call:
        names = [await call.next_mark() for _ in range(7)]
        await call.client.send(*(mark_message(name) for name in names[:-1]))
        await call.client.speak(tone(440, 600))  # a goodbye is not interrupted
        assert call.client.websocket.close_code is None
        await call.client.send(mark_message(names[-1]))
        assert await call.client.closed() == (1000, "")
        goodbye = call.session.of("response.create")[-1]
        assert goodbye["response"]["tool_choice"] == "none"


async def test_a_goodbye_that_fails_still_ends_the_call() -> None:
    """After the retries nobody is kept on the line."""
    failed = Plan(failed="server_error")
    async with calling(Plan(tool=("end_call", "{}")), failed, failed, failed) as call:
        assert await call.client.closed() == (1000, "")


async def test_send_digits() -> None:
    """The tool's keys go out as a `dtmf` message."""
    async with calling(Plan(tool=("send_digits", '{"digits": "12#"}'))) as call:
        message = await call.client.receive()
        assert message["event"] == "dtmf"
        assert message["dtmf"] == {"digit": "12#"}
        assert await call.hear(len(ANSWER)) == ANSWER


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        ("slow", "{}", "longer than 0.2 s"),
        ("broken", "{}", "failed: RuntimeError"),
        ("broken", '{"x": 1}', "do not fit"),
        ("unknown", "{}", "no tool 'unknown'"),
    ],
)
async def test_the_model_is_told_of_a_tool_that_fails(
    tool: str, arguments: str, expected: str
) -> None:
    """And answers the caller; the call goes on."""
    tools = standard_tools(timeout_s=0.2)

    @tools.add
    async def slow(call: ToolCall) -> None:
        """Takes for ever."""
        await asyncio.Event().wait()

    @tools.add
    async def broken(call: ToolCall) -> None:
        """Fails."""
        raise RuntimeError("secret")

    async with calling(Plan(tool=(tool, arguments)), tools=tools) as call:
        assert await call.hear(len(ANSWER)) == ANSWER
        [told] = call.session.of("conversation.item.create")
        assert told["item"]["type"] == "function_call_output"
        assert expected in json.loads(told["item"]["output"])["error"]
        assert "secret" not in told["item"]["output"]


async def test_keys_are_told_to_the_model_together() -> None:
    """Once the caller pauses."""
    async with calling() as call:
        await call.hear(len(ANSWER))
        await call.client.send(dtmf_message("4"), dtmf_message("2"))
        assert await call.hear(len(ANSWER)) == ANSWER
        [told] = call.session.of("conversation.item.create")
        assert "42" in told["item"]["content"][0]["text"]


async def test_a_refused_key_ends_the_call() -> None:
    """Trying again would not help; the log says why, without the key."""
    with capture_logs() as logs:
        async with calling(begin=False) as call:
            call.api.refuse_status = 401
            await call.client.begin()
            assert await call.client.closed() == (1011, "the agent failed")
    assert any(entry["event"] == "call_failed" for entry in logs)
    assert "sk-test" not in str(logs)


def written(folder: Path) -> list[dict[str, Any]]:
    """The records of a folder, which nobody else may read."""
    [path] = folder.iterdir()
    assert path.stat().st_mode & 0o077 == 0
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_records_are_written_and_nothing_of_them_is_logged(tmp_path: Path) -> None:
    """One line with both sides' words and the time until the answer was heard."""
    with capture_logs() as logs:
        async with calling(Plan(ANSWER, "Hi."), record_dir=str(tmp_path)) as call:
            await call.hear(len(ANSWER))
            await call.speak()
            await call.hear(len(ANSWER))
            await call.client.send(stop_message())
            await call.client.closed()
    [record] = written(tmp_path)
    assert [turn["text"] for turn in record["turns"]] == ["Hi.", TRANSCRIPT, "This is the answer."]
    assert record["turns"][0]["response_ms"] is None
    assert record["turns"][2]["response_ms"] >= 0
    assert TRANSCRIPT not in str(logs)
