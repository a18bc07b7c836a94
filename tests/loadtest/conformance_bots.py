"""Bots for the conformance kit: one that does all well, and many that do one thing wrong."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from loadtest import audio

GREETING = audio.tone(600, 0.4)

Message = dict[str, Any]


class GoodBot:
    """Greets with two marks, clears its greeting when the caller speaks, and listens.

    One object serves one connection. What it raises closes its connection with 1011.
    """

    def __init__(self, websocket: ServerConnection) -> None:
        self.websocket = websocket
        self.stream_sid = ""
        self.unplayed: list[str] = []

    async def serve(self) -> None:
        """Serve the call."""
        async for text in self.websocket:
            message = json.loads(text)
            if handler := getattr(self, f"on_{message['event']}", None):
                await handler(message)

    async def on_start(self, message: Message) -> None:
        """Greet."""
        self.stream_sid = message["streamSid"]
        await self.greet()

    async def greet(self) -> None:
        """The greeting, of two parts."""
        for name in ("one", "two"):
            await self.play(GREETING)
            await self.mark(name)

    async def on_media(self, message: Message) -> None:
        """Fall silent when the caller speaks."""
        silent = message["media"]["payload"] == b64encode(audio.SILENT_FRAME).decode()
        if self.unplayed and not silent:
            self.unplayed.clear()
            await self.send({"event": "clear", "streamSid": self.stream_sid})

    async def on_mark(self, message: Message) -> None:
        """A part of the greeting is over."""
        if message["mark"]["name"] in self.unplayed:
            self.unplayed.remove(message["mark"]["name"])

    async def play(self, sound: bytes) -> None:
        """Play µ-law audio."""
        payload = b64encode(sound).decode()
        await self.send(
            {"event": "media", "streamSid": self.stream_sid, "media": {"payload": payload}}
        )

    async def mark(self, name: str) -> None:
        """Set a mark."""
        self.unplayed.append(name)
        await self.send({"event": "mark", "streamSid": self.stream_sid, "mark": {"name": name}})

    async def send(self, message: Message) -> None:
        """Send any message."""
        await self.websocket.send(json.dumps(message))


class SilentBot(GoodBot):
    """Only listens."""

    async def greet(self) -> None:
        """Say nothing."""


def saying(message: object) -> type[GoodBot]:
    """A bot whose greeting is this one message, `SID` standing for its stream's id."""

    class SayingBot(GoodBot):
        async def greet(self) -> None:
            if isinstance(message, bytes):
                await self.websocket.send(message)
            else:
                text = message if isinstance(message, str) else json.dumps(message)
                await self.websocket.send(text.replace("SID", self.stream_sid))

    return SayingBot


def playing(sound: bytes, times: int = 1) -> type[GoodBot]:
    """A bot whose greeting is this payload, again and again."""

    class PlayingBot(GoodBot):
        async def greet(self) -> None:
            for _ in range(times):
                await self.play(sound)

    return PlayingBot


class SidlessBot(GoodBot):
    """Leaves `streamSid` out."""

    async def send(self, message: Message) -> None:
        """Send a message without it."""
        await super().send({name: value for name, value in message.items() if name != "streamSid"})


class BrokenBot(GoodBot):
    """Breaks when a call begins."""

    async def on_start(self, message: Message) -> None:
        """Break."""
        raise ValueError(message)


class MarkFearingBot(GoodBot):
    """Breaks when a mark comes back."""

    async def on_mark(self, message: Message) -> None:
        """Break."""
        raise ValueError(message)


class BurstFearingBot(GoodBot):
    """Breaks when two marks come back one right after the other."""

    last = 0.0

    async def on_mark(self, message: Message) -> None:
        """Break, unless the last one is long ago."""
        now = asyncio.get_running_loop().time()
        if now - self.last < 0.2:
            raise ValueError(message)
        self.last = now


class ClearLosingBot(GoodBot):
    """Breaks after it has cleared."""

    async def on_media(self, message: Message) -> None:
        """Clear, and break."""
        await super().on_media(message)
        if self.stream_sid and not self.unplayed:
            raise ValueError("nothing to say")


class StrictBot(GoodBot):
    """Breaks on fields that it doesn't know."""

    async def on_media(self, message: Message) -> None:
        """Check the fields."""
        if set(message["media"]) != {"track", "chunk", "timestamp", "payload"}:
            raise ValueError(message)


class DigitFearingBot(GoodBot):
    """Breaks on a key that is no number."""

    async def on_dtmf(self, message: Message) -> None:
        """Read the digit."""
        int(message["dtmf"]["digit"])


class ImpatientBot(SilentBot):
    """Breaks when the caller is silent for 0.7 s."""

    frames = 0

    async def on_media(self, message: Message) -> None:
        """Count silent frames."""
        silent = message["media"]["payload"] == b64encode(audio.SILENT_FRAME).decode()
        self.frames = self.frames + 1 if silent else 0
        if self.frames > 35:
            raise ValueError("are you there?")


class GapFearingBot(GoodBot):
    """Breaks when the timestamps jump."""

    last = 0

    async def on_media(self, message: Message) -> None:
        """Compare the timestamps."""
        now = int(message["media"]["timestamp"])
        if now - self.last > 100:
            raise ValueError(now)
        self.last = now


class OneCallBot(GoodBot):
    """Knows one stream only, the last that began."""

    current: ClassVar[str] = ""

    async def on_start(self, message: Message) -> None:
        """Forget the stream before."""
        OneCallBot.current = message["streamSid"]
        await super().on_start(message)

    async def on_media(self, message: Message) -> None:
        """Say something on the last stream."""
        self.stream_sid = OneCallBot.current
        await self.mark("other")


class ForgetfulBot(GoodBot):
    """Refuses a call that it had before."""

    known: ClassVar[set[str]] = set()

    async def on_start(self, message: Message) -> None:
        """Look the call up."""
        if message["start"]["callSid"] in self.known:
            raise ValueError("this call is over")
        self.known.add(message["start"]["callSid"])
        await super().on_start(message)


class FragileBot(GoodBot):
    """Takes no call any more after one that broke."""

    broken: ClassVar[bool] = False

    async def serve(self) -> None:
        """Serve one, or none."""
        if FragileBot.broken:
            raise ValueError("broken")
        try:
            await super().serve()
            FragileBot.broken = self.websocket.close_code == 1006
        except ConnectionClosed:
            FragileBot.broken = True


class PoliteBot(GoodBot):
    """Ends each call with 1000 when a key is pressed."""

    async def on_dtmf(self, message: Message) -> None:
        """Hang up."""
        await self.websocket.close(1000)


@asynccontextmanager
async def running(bot: Callable[[ServerConnection], GoodBot], **options: Any) -> AsyncIterator[str]:
    """Serve a bot on a free port; yields its URL. `options` are those of `websockets`' serve."""

    async def handle(websocket: ServerConnection) -> None:
        try:
            await bot(websocket).serve()
        except (ValueError, KeyError):
            await websocket.close(1011, "the bot broke")
        except ConnectionClosed:
            pass  # the caller is gone, as callers may be

    async with serve(handle, "127.0.0.1", 0, **options) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/media"
