"""A voice server for tests: a real WebSocket server that records, and plays what it is told."""

import base64
import json
import socket
import ssl
from types import TracebackType
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.shim.polling import PATIENCE_S, until


class VoiceStream:
    """One WebSocket that the worker opened, as the voice server sees it."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.messages: list[dict[str, Any]] = []
        self.close_code: int | None = None
        self.closed = False

    @property
    def stream_sid(self) -> str:
        """The stream's id, as the `start` message gave it."""
        sid: str = self.messages[1]["streamSid"]
        return sid

    def of(self, event: str) -> list[dict[str, Any]]:
        """The messages of one kind so far."""
        return [message for message in self.messages if message["event"] == event]

    def payloads(self) -> list[bytes]:
        """The caller's audio so far, message by message."""
        return [base64.b64decode(message["media"]["payload"]) for message in self.of("media")]

    async def wait(
        self, event: str, count: int = 1, within_s: float = PATIENCE_S
    ) -> list[dict[str, Any]]:
        """Wait until there are so many messages of one kind; returns all of them."""
        await until(lambda: len(self.of(event)) >= count, f"{count} {event} messages", within_s)
        return self.of(event)

    async def wait_closed(self, within_s: float = PATIENCE_S) -> int | None:
        """Wait for the end of the connection; returns the close code that the worker sent."""
        await until(lambda: self.closed, "the WebSocket's end", within_s)
        return self.close_code

    async def play(self, audio: bytes, piece_bytes: int = 8000) -> None:
        """Send audio to the caller, in pieces."""
        for start in range(0, len(audio), piece_bytes):
            payload = base64.b64encode(audio[start : start + piece_bytes]).decode()
            await self.say("media", media={"payload": payload})

    async def mark(self, name: str) -> None:
        """Ask to be told when the audio so far is gone."""
        await self.say("mark", mark={"name": name})

    async def clear(self) -> None:
        """Ask to throw away the audio that waits."""
        await self.say("clear")

    async def say(self, event: str, **content: object) -> None:
        """Send a message of any kind."""
        await self.connection.send(
            json.dumps({"event": event, "streamSid": self.stream_sid, **content})
        )

    async def serve(self) -> None:
        """Record until the end of the connection."""
        try:
            async for message in self.connection:
                self.messages.append(json.loads(message))
        except ConnectionClosed:
            pass  # how it ended stands in close_code
        finally:
            # The library's close_code is None when the connection ended without a close frame.
            self.close_code = self.connection.protocol.close_code
            self.closed = True


class VoiceServer:
    """Accepts streams on a free port of the loopback, from `async with` to its end."""

    def __init__(self, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.streams: list[VoiceStream] = []
        self._tls = tls
        self.port = port
        self._server: Server

    @property
    def url(self) -> str:
        """Where the worker finds it."""
        return f"{'wss' if self._tls else 'ws'}://127.0.0.1:{self.port}/media"

    async def __aenter__(self) -> "VoiceServer":
        self._server = await serve(
            self._accept, "127.0.0.1", self.port, ssl=self._tls, compression=None
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for stream in self.streams:
            stream.connection.transport.abort()
        self._server.close()
        await self._server.wait_closed()

    async def stream(self, number: int = 0, within_s: float = PATIENCE_S) -> VoiceStream:
        """Wait for the n-th stream, and its `start` message."""
        await until(lambda: len(self.streams) > number, f"stream {number}", within_s)
        stream = self.streams[number]
        await stream.wait("start", within_s=within_s)
        return stream

    async def _accept(self, connection: ServerConnection) -> None:
        stream = VoiceStream(connection)
        self.streams.append(stream)
        await stream.serve()


def unused_port() -> int:
    """A TCP port on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
