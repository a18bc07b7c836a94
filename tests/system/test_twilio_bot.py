"""A bot as Twilio's samples are written, unchanged on this stack: real Asterisk, SIP and RTP."""

import asyncio
import json
import socket
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from loadtest import audio, recording
from loadtest.phone_plan import CallPlan, CallRecord
from loadtest.sip_phone import SipPhone
from loadtest.stack import Stack, free_port

pytestmark = pytest.mark.asterisk

AUTH_TOKEN = "0123456789abcdef0123456789abcdef"
REPEAT_AFTER = 50
PATIENCE_S = 5.0
HOLD_HZ, GOODBYE_HZ = 700.0, 1100.0
HOLD_S, GOODBYE_S = 10.0, 0.6


class TwilioBot:
    """Repeats each second of the caller; plays music on 1, stops it on *, says goodbye on #.

    The idioms are those of Twilio's samples: `if data["event"] == ...`, the payload taken from
    `data["media"]["payload"]`, a mark behind each audio, `clear` to interrupt, and a close
    without arguments. It knows nothing of this stack.
    """

    def __init__(self, port: int) -> None:
        self.url = f"ws://127.0.0.1:{port}/media?tenant=blue"
        self.heard: list[dict[str, Any]] = []
        self._port = port

    def of(self, event: str) -> list[dict[str, Any]]:
        """The messages of one kind that it got."""
        return [data for data in self.heard if data["event"] == event]

    async def run(self) -> AsyncIterator["TwilioBot"]:
        """Serve until the generator is closed."""
        async with serve(self._serve, "127.0.0.1", self._port, process_request=self._validate):
            yield self

    def _validate(self, connection: ServerConnection, request: Request) -> Response | None:
        signature = request.headers.get("X-Twilio-Signature", "")
        if RequestValidator(AUTH_TOKEN).validate(self.url, {}, signature):
            return None
        return connection.respond(HTTPStatus.FORBIDDEN, "Invalid signature\n")

    async def _serve(self, ws: ServerConnection) -> None:
        stream = MediaStream(ws)
        try:
            async for message in ws:
                data = json.loads(message)
                self.heard.append(data)
                await stream.process_message(data)
                if data["event"] == "stop":
                    break
        except ConnectionClosed:
            return  # the samples end here too


class MediaStream:
    """One call of the bot."""

    def __init__(self, ws: ServerConnection) -> None:
        self.ws = ws
        self.stream_sid = ""
        self.chunks: list[bytes] = []
        self.repeat_count = 0
        self.repeating = True

    async def process_message(self, data: dict[str, Any]) -> None:
        """Do what a message asks for."""
        if data["event"] == "start":
            self.stream_sid = data["start"]["streamSid"]
        if data["event"] == "media" and self.repeating:
            self.chunks.append(b64decode(data["media"]["payload"]))
            if len(self.chunks) >= REPEAT_AFTER:
                await self.play(b"".join(self.chunks), f"Repeat message {self.repeat_count}")
                self.repeat_count += 1
                self.chunks = []
        if data["event"] == "dtmf":
            self.repeating = False
            await self.press(data["dtmf"]["digit"])
        if data["event"] == "mark" and data["mark"]["name"] == "goodbye":
            await self.ws.close()

    async def press(self, digit: str) -> None:
        """Music, silence, or the end."""
        if digit == "1":
            await self.play(audio.tone(HOLD_HZ, HOLD_S), "music")
        if digit == "*":
            await self.ws.send(json.dumps({"event": "clear", "streamSid": self.stream_sid}))
        if digit == "#":
            await self.play(audio.tone(GOODBYE_HZ, GOODBYE_S), "goodbye")

    async def play(self, sound: bytes, name: str) -> None:
        """Audio, and a mark behind it."""
        sid = self.stream_sid
        media = {"payload": b64encode(sound).decode("ascii")}
        await self.ws.send(json.dumps({"event": "media", "streamSid": sid, "media": media}))
        mark = {"name": name}
        await self.ws.send(json.dumps({"event": "mark", "streamSid": sid, "mark": mark}))


@pytest.fixture(scope="module")
def stack(asterisk_rootfs: Path) -> Iterator[Stack]:
    """The whole system, pointed at the bot's address; the bot itself comes with each test."""
    url = TwilioBot(free_port(socket.SOCK_STREAM)).url
    settings = {
        "ECS_MEDIA_WSS_URL": url,
        "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
        "STREAM_PARAMETERS": '{"aCustomParameter": "a custom value"}',
        "STREAM_CONNECT_BUDGET": "2",
        "WORKERS": "1",
    }
    with Stack(real=True, settings=settings) as running:
        yield running


@pytest.fixture
async def bot(stack: Stack) -> AsyncIterator[TwilioBot]:
    """The bot, where the stack looks for it."""
    port = int(stack.environment["ECS_MEDIA_WSS_URL"].split(":")[2].split("/")[0])
    async for bot in TwilioBot(port).run():
        yield bot


async def place(stack: Stack, **plan: Any) -> CallRecord:
    """Make a call and wait for its end."""
    async with SipPhone() as phone:
        return await phone.call(CallPlan(to=stack.sip_uri, **plan))


async def wait_for_stop(bot: TwilioBot) -> None:
    """Wait until the bot knows that the call is over."""
    async with asyncio.timeout(PATIENCE_S):
        while not bot.of("stop"):  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


def heard_from(record: CallRecord, seconds: float) -> audio.Pcm:
    """What the caller heard later than so long after the answer."""
    at_ns = int(((record.answered_at or 0.0) + seconds) * 1e9)
    return recording.timeline([packet for packet in record.packets if packet.at_ns >= at_ns])


async def test_the_caller_is_repeated(stack: Stack, bot: TwilioBot) -> None:
    """What is said comes back a second later, as in Twilio's connect-basic; all marks return."""
    said = b"".join(audio.tone(hz, 1.0) for hz in (440.0, 540.0, 640.0))
    record = await place(stack, audio=said, seconds=5.5)
    assert (record.outcome, record.ended_by) == ("answered", "caller")
    heard = recording.timeline(record.packets)
    for hz in (440.0, 540.0, 640.0):
        assert recording.power_share(heard, hz) > 0.2
    first_ns = recording.first_sound_ns(record.packets)
    assert first_ns is not None
    assert 0.9 < first_ns / 1e9 - (record.answered_at or 0.0) < 1.5
    assert recording.continuity(record.packets).lost == 0
    names = [data["mark"]["name"] for data in bot.of("mark")]
    assert names == [f"Repeat message {number}" for number in range(len(names))]
    assert len(names) >= 3
    assert {data["mark"]["playedMs"] for data in bot.of("mark")} == {"1000"}
    assert [data["event"] for data in bot.heard[:2]] == ["connected", "start"]
    assert bot.heard[1]["start"]["customParameters"]["aCustomParameter"] == "a custom value"
    await wait_for_stop(bot)
    assert bot.heard[-1]["event"] == "stop"


async def test_clear_silences_the_caller(stack: Stack, bot: TwilioBot) -> None:
    """Ten seconds of music are sent at once, and end where * is pressed; the mark comes back."""
    record = await place(stack, digits=((0.5, "1"), (2.0, "*")), seconds=4.0)
    assert [data["dtmf"]["digit"] for data in bot.of("dtmf")] == ["1", "*"]
    [mark] = bot.of("mark")
    played_ms, cleared_ms = int(mark["mark"]["playedMs"]), int(mark["mark"]["clearedMs"])
    assert played_ms + cleared_ms == HOLD_S * 1000
    assert recording.hears_only(recording.timeline(record.packets), HOLD_HZ)
    loud = [packet for packet in record.packets if packet.payload != audio.SILENT_FRAME]
    assert len(loud) * 20 == played_ms
    assert not heard_from(record, 3.0).any()
    await wait_for_stop(bot)


async def test_the_bot_ends_the_call(stack: Stack, bot: TwilioBot) -> None:
    """The goodbye is heard to its end; then the bot closes, and Asterisk hangs up."""
    record = await place(stack, digits=((0.5, "#"),), seconds=10.0)
    assert record.ended_by == "callee"
    loud = [packet for packet in record.packets if packet.payload != audio.SILENT_FRAME]
    assert len(loud) * 20 == GOODBYE_S * 1000
    assert recording.hears_only(recording.timeline(record.packets), GOODBYE_HZ)
    assert bot.of("stop") == []  # whoever closes needs none
    stack.wait_until(lambda: not any(stack.left_in_asterisk().values()), 5, "channels left")


async def test_a_bot_with_another_token_is_not_reached(stack: Stack, bot: TwilioBot) -> None:
    """It answers 403; the caller goes on in the dialplan, whose fallback is 600 Hz."""
    bot.url += "&another=1"  # the bot validates another URL than the one that was signed
    record = await place(stack, seconds=20.0)
    assert record.ended_by == "callee"
    assert recording.hears_only(recording.timeline(record.packets), 600.0)
    assert bot.heard == []
