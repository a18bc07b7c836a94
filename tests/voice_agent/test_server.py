"""The listener: HTTP, addresses, and the end of everything within three seconds."""

import asyncio
import time
from collections.abc import Iterable
from functools import partial

import aiohttp
import pytest
from websockets.exceptions import InvalidStatus

from tests.voice_agent.conftest import serving
from tests.voice_agent.stream_client import StreamClient
from voice_agent.agent import Action, Agent, CallMetadata, Play
from voice_agent.agent_session import serve_call
from voice_agent.config import Config
from voice_agent.mulaw import silence
from voice_agent.offline_agent import OfflineAgent
from voice_agent.server import ListenError, VoiceServer


async def get(port: int, path: str) -> tuple[int, object]:
    """Status and JSON body of a plain HTTP request."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}") as response,
    ):
        return response.status, await response.json()


async def test_health_counts_calls(server: VoiceServer) -> None:
    """Those of now, and all since the start."""
    idle = {"status": "ok", "calls": 0, "calls_total": 0, "calls_failed": 0}
    assert await get(server.port, "/health") == (200, idle)
    async with StreamClient(server.port) as client:
        await client.begin()
        await client.hear()
        assert await get(server.port, "/health?verbose") == (
            200,
            idle | {"calls": 1, "calls_total": 1},
        )


async def test_other_paths_are_not_found(server: VoiceServer) -> None:
    """Neither for HTTP nor for a WebSocket; the answer says where calls are."""
    assert await get(server.port, "/") == (404, {"error": "calls are at /media-stream"})
    with pytest.raises(InvalidStatus, match="404"):
        await StreamClient(server.port, "/media-streams").__aenter__()


async def test_a_query_does_not_change_the_path(server: VoiceServer) -> None:
    """Some set-ups pass a token there."""
    async with StreamClient(server.port, "/media-stream?token=x") as client:
        await client.begin()
        await client.hear()


async def test_an_address_in_use_is_named(server: VoiceServer) -> None:
    """One line with both settings."""
    taken = Config(voice_agent_port=server.port)
    second = VoiceServer(taken, partial(serve_call, make_agent=OfflineAgent))
    with pytest.raises(
        ListenError, match=f"VOICE_AGENT_PORT {server.port}: can't listen: .*in use"
    ):
        await second.__aenter__()


class TalkativeAgent(Agent):
    """Fills every buffer between it and the caller."""

    def on_start(self, call: CallMetadata) -> Iterable[Action]:
        return (Play(silence(600_000)),)


async def test_leaving_closes_calls_within_three_seconds() -> None:
    """A call is told 1001; one that doesn't read holds up nothing."""
    async with (
        serving(TalkativeAgent) as server,
        StreamClient(server.port) as call,
        StreamClient(server.port) as deaf,
    ):
        await call.begin()
        await deaf.begin()
        for _ in range(2900):  # 6 MB: by then the buffers of the other one are full
            await call.receive()
        reading = asyncio.create_task(read_all(call))
        started = time.monotonic()
        await server.__aexit__(None, None, None)
        assert time.monotonic() - started < 3
        await reading
        assert await call.closed() == (1001, "the voice server stops")
        assert server.health.calls == 0
        deaf.websocket.transport.abort()


async def read_all(client: StreamClient) -> None:
    """Read until the connection is closed."""
    async for _ in client.websocket:
        pass
