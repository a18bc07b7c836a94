"""The proxy between two real sockets."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from loadtest.tcp_proxy import TcpProxy

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send everything back."""
    while data := await reader.read(100):
        writer.write(data)
    writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[TcpProxy]:
    """A proxy in front of an echo server."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    target = server.sockets[0].getsockname()[:2]
    async with TcpProxy(target) as running:
        yield running
    server.close()


async def ask(streams: Streams, data: bytes) -> bytes:
    """Send, and read as much."""
    reader, writer = streams
    writer.write(data)
    return await asyncio.wait_for(reader.readexactly(len(data)), 5)


async def test_passes_bytes(proxy: TcpProxy) -> None:
    """Both ways, and the end of one side is the end of the other."""
    streams = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await ask(streams, b"hello") == b"hello"
    streams[1].write_eof()
    assert await asyncio.wait_for(streams[0].read(), 5) == b""
    streams[1].close()


async def test_cut_resets(proxy: TcpProxy) -> None:
    """A connection that is cut is reset; a new one works."""
    streams = await asyncio.open_connection("127.0.0.1", proxy.port)
    await ask(streams, b"x")
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(streams[0].read(), 5)
    again = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await ask(again, b"y") == b"y"
    again[1].close()


async def test_silence_holds_back(proxy: TcpProxy) -> None:
    """Nothing passes while silent, and nothing is lost."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    await ask((reader, writer), b"x")
    proxy.silent = True
    writer.write(b"later")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.2)
    proxy.silent = False
    assert await asyncio.wait_for(reader.readexactly(5), 5) == b"later"
    writer.close()


async def test_refusing_resets_new_connections(proxy: TcpProxy) -> None:
    """While refusing, a new connection is reset at once."""
    proxy.refusing = True
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), 5)
    writer.close()
