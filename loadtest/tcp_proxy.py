"""A TCP proxy that can be cut, silenced or slowed: for what a network does to a connection."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self

CHUNK_BYTES: Final = 64 * 1024


@dataclass(eq=False)
class _Pair:
    """The two halves of a proxied connection."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class TcpProxy:
    """Passes bytes between a port of its own and a target, from `async with` to its end.

    `cut()` resets all connections. While `silent` is set nothing passes and nothing is closed.
    While `refusing` is set new connections are reset at once. `delay_s` says for how long the
    next chunk is held back.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._pairs: set[_Pair] = set()
        self._talking = asyncio.Event()
        self._talking.set()
        self._server: asyncio.Server
        self.port = 0
        self.refusing = False
        self.delay_s: Callable[[], float] = float

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    @property
    def silent(self) -> bool:
        """Whether nothing passes."""
        return not self._talking.is_set()

    @silent.setter
    def silent(self, silent: bool) -> None:
        if silent:
            self._talking.clear()
        else:
            self._talking.set()

    def cut(self) -> None:
        """Reset all connections."""
        for pair in self._pairs:
            for task in pair.tasks:
                task.cancel()
            for writer in (pair.client, pair.server):
                _reset(writer)
        self._pairs.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            _reset(writer)
            return
        try:
            from_server, to_server = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)  # as the target does it
            return
        pair = _Pair(writer, to_server)
        self._pairs.add(pair)
        pair.tasks = [
            asyncio.create_task(self._pass_on(reader, to_server)),
            asyncio.create_task(self._pass_on(from_server, writer)),
        ]
        await asyncio.wait(pair.tasks)
        self._pairs.discard(pair)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):  # either side may reset: so does the other then
            while data := await reader.read(CHUNK_BYTES):
                await self._talking.wait()
                await asyncio.sleep(self.delay_s())
                writer.write(data)
                await writer.drain()
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN: a linger time of 0 does that (socket(7), SO_LINGER)."""
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
