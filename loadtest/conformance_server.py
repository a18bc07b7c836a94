"""A voice server that a check directs: it keeps all that comes, and sends what it is told."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64decode, b64encode
from types import TracebackType
from typing import Any, Final, TypeAlias

from msgspec import Struct
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from loadtest.conformance_report import Unmet

PATIENCE_S: Final = 5.0
"""For what takes milliseconds on an idle machine."""
PATH: Final = "/media-stream?tenant=blue&x=%20"
"""The signature covers the whole URL, so it has some of everything."""

Json: TypeAlias = dict[str, Any]


class Received(Struct, frozen=True):
    """A message and when it was read, on the wall clock."""

    at_ns: int
    content: Json

    @property
    def event(self) -> object:
        """The kind of message."""
        return self.content.get("event")


class Stream:
    """One WebSocket that a worker has opened."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.received: list[Received] = []
        self.ended = asyncio.Event()
        self._news = asyncio.Event()

    @property
    def messages(self) -> list[Json]:
        """All messages so far."""
        return [received.content for received in self.received]

    @property
    def close_code(self) -> int | None:
        """The code of the worker's close frame; None without one."""
        frame = self.connection.protocol.close_rcvd
        return None if frame is None else int(frame.code)

    def header(self, name: str) -> str | None:
        """A header of the worker's handshake."""
        request = self.connection.request
        return None if request is None else request.headers.get(name)

    def of(self, event: str) -> list[Json]:
        """The messages of one kind so far."""
        return [received.content for received in self.received if received.event == event]

    @property
    def audio(self) -> list[bytes]:
        """The caller's audio so far, message by message."""
        return [b64decode(message["media"]["payload"]) for message in self.of("media")]

    async def wait(self, event: str, count: int = 1) -> list[Json]:
        """Wait until there are so many messages of one kind; raises Unmet."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while len(self.of(event)) < count:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as error:
            came = f"{len(self.of(event))} within {PATIENCE_S:g} s"
            raise Unmet(f"{count} {event} message(s)", came) from error
        return self.of(event)

    async def wait_ended(self) -> None:
        """Wait until the worker has closed the connection; raises Unmet."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self.ended.wait()
        except TimeoutError as error:
            raise Unmet("the WebSocket closed", f"still open after {PATIENCE_S:g} s") from error

    async def play(self, audio: bytes, piece_bytes: int = 8000) -> None:
        """Send audio to the caller, in pieces."""
        for start in range(0, len(audio), piece_bytes):
            payload = b64encode(audio[start : start + piece_bytes]).decode()
            await self.say("media", media={"payload": payload})

    async def mark(self, name: str) -> None:
        """Ask to be told when the audio so far is gone."""
        await self.say("mark", mark={"name": name})

    async def say(self, event: str, **content: object) -> None:
        """Send a message of any kind for this stream."""
        sid = self.messages[1]["streamSid"]
        await self.send(json.dumps({"event": event, "streamSid": sid, **content}))

    async def send(self, message: str | bytes) -> None:
        """Send a message as it is; raises Unmet when the worker has closed the connection."""
        try:
            await self.connection.send(message)
        except ConnectionClosed as error:
            raise Unmet("the stream open", f"closed: {error}") from error

    async def record(self) -> None:
        """Keep all that comes until the connection ends."""
        try:
            while True:
                text = await self.connection.recv()
                self.received.append(Received(time.time_ns(), json.loads(text)))
                self._news.set()
        except ConnectionClosed:
            self.ended.set()


class ScriptedServer:
    """Accepts streams at a free port of the loopback, from `async with` to its end.

    It would compress, and it would take any subprotocol: whether it is asked to is checked.
    """

    def __init__(self) -> None:
        self._streams: asyncio.Queue[Stream] = asyncio.Queue()
        self._server: Server

    async def __aenter__(self) -> ScriptedServer:
        self._server = await serve(self._accept, "127.0.0.1", 0, compression="deflate")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close(close_connections=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """Where workers find it."""
        port = next(iter(self._server.sockets)).getsockname()[1]
        return f"ws://127.0.0.1:{port}{PATH}"

    async def next_stream(self, call_sid: str) -> Stream:
        """Wait for the next WebSocket of a call, and its first two messages; raises Unmet."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    stream = await self._streams.get()
                    started = await stream.wait("start")
                    if started[0]["start"].get("callSid") == call_sid:
                        return stream
        except TimeoutError as error:
            raise Unmet("a WebSocket opened", f"none within {PATIENCE_S:g} s") from error

    @property
    def waiting(self) -> int:
        """How many streams were opened that nobody has taken yet."""
        return self._streams.qsize()

    async def _accept(self, connection: ServerConnection) -> None:
        stream = Stream(connection)
        self._streams.put_nowait(stream)
        await stream.record()
