"""A TCP server that speaks as much of WebSocket as a test tells it to: for what a well-behaved
library would not send, and for peers that don't read."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeAlias

from websockets.utils import accept_key

TEXT, BINARY, CONTINUATION, CLOSE, PING = 1, 2, 0, 8, 9


def ws_frame(opcode: int, payload: bytes, *, fin: bool = True, flags: int = 0) -> bytes:
    """A server's frame (RFC 6455 section 5.2), also one that the RFC forbids."""
    first = (0x80 if fin else 0) | flags | opcode
    if len(payload) < 126:
        return bytes([first, len(payload)]) + payload
    if len(payload) < 1 << 16:
        return struct.pack("!BBH", first, 126, len(payload)) + payload
    return struct.pack("!BBQ", first, 127, len(payload)) + payload


def close_frame(code: int, reason: bytes = b"") -> bytes:
    """A close frame with any code."""
    return ws_frame(CLOSE, struct.pack("!H", code) + reason)


class RawConnection:
    """One accepted connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.request = b""

    async def read_request(self) -> bytes:
        """Read the client's upgrade request."""
        self.request = await self.reader.readuntil(b"\r\n\r\n")
        return self.request

    async def accept(self) -> None:
        """Read the client's request and upgrade to a WebSocket."""
        lines = (await self.read_request()).decode().split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:] if line)}
        self.writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept_key(headers["sec-websocket-key"]).encode()
        )
        await self.writer.drain()

    async def send(self, data: bytes) -> None:
        """Send bytes, and wait until the kernel has most of them."""
        self.writer.write(data)
        await self.writer.drain()
        await asyncio.sleep(0)  # `drain` lets nobody else run while the kernel takes everything

    def stop_reading(self) -> None:
        """Leave what comes in the kernel's buffers."""
        self._transport.pause_reading()

    def read_again(self) -> None:
        """Take what has come."""
        self._transport.resume_reading()

    @property
    def _transport(self) -> asyncio.Transport:
        """The writer's transport with its whole interface."""
        assert isinstance(self.writer.transport, asyncio.Transport)
        return self.writer.transport

    async def read_frames(self, until: int | None = None) -> list[tuple[int, bytes]]:
        """Opcode and unmasked payload of each frame, to the end or the first frame of a kind."""
        frames: list[tuple[int, bytes]] = []
        while True:
            try:
                first, second = await self.reader.readexactly(2)
                size = second & 0x7F
                if size == 126:
                    (size,) = struct.unpack("!H", await self.reader.readexactly(2))
                elif size == 127:
                    (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
                mask = await self.reader.readexactly(4)
                masked = await self.reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError):
                return frames
            payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(masked))
            frames.append((first & 0x0F, payload))
            if frames[-1][0] == until:
                return frames


Script: TypeAlias = Callable[[RawConnection], Coroutine[Any, Any, None]]


class RawServer:
    """Runs `script` for each connection, and keeps the connection until the server's end.

    An error of the script, other than that the peer went away, is raised at the end.
    With `receive_buffer_bytes` the kernel holds only about so much that was not read.
    """

    def __init__(
        self,
        script: Script,
        receive_buffer_bytes: int | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.connections: list[RawConnection] = []
        self._script = script
        self._receive_buffer_bytes = receive_buffer_bytes
        self._tls = tls
        self._tasks: list[asyncio.Task[None]] = []
        self._server: asyncio.Server
        self._port = 0

    @property
    def url(self) -> str:
        """Where the worker finds it."""
        scheme, host = ("wss", "localhost") if self._tls else ("ws", "127.0.0.1")
        return f"{scheme}://{host}:{self._port}/media"

    async def __aenter__(self) -> "RawServer":
        sock = socket.socket()
        if self._receive_buffer_bytes is not None:  # accepted sockets inherit it
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer_bytes)
        sock.bind(("127.0.0.1", 0))
        self._port = sock.getsockname()[1]
        self._server = await asyncio.start_server(self._accept, sock=sock, ssl=self._tls)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for connection in self.connections:
            connection.writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and error is None:
                raise result

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = RawConnection(reader, writer)
        self.connections.append(connection)
        self._tasks.append(asyncio.create_task(self._run(connection)))

    async def _run(self, connection: RawConnection) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):  # the worker left
            await self._script(connection)
