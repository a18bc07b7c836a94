"""The listener: HTTP, addresses, and the end of everything within three seconds."""

import asyncio
import time
from collections.abc import Iterable
from functools import partial

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.voice_agent.conftest import serving
from tests.voice_agent.stream_client import StreamClient, until
from voice_agent.agent import Action, Agent, CallMetadata, Play
from voice_agent.agent_session import serve_call
from voice_agent.config import Config
from voice_agent.mulaw import silence
from voice_agent.offline_agent import OfflineAgent
from voice_agent.server import ListenError, VoiceServer
from voice_agent.signature import sign


async def get(port: int, path: str) -> tuple[int, object]:
    """Status and JSON body of a plain HTTP request."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}") as response,
    ):
        return response.status, await response.json()


async def get_text(port: int, path: str) -> str:
    """The body of a plain HTTP request."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}") as response,
    ):
        return await response.text()


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


async def connect_signed(server: VoiceServer, signed_url: str | None, target: str) -> int:
    """The status of a handshake with a signature over some URL, or without one."""
    headers = {} if signed_url is None else {"X-Twilio-Signature": sign("token", signed_url)}
    url = f"ws://127.0.0.1:{server.port}{target}"
    try:
        async with connect(url, additional_headers=headers):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


async def test_signatures_are_checked_where_there_is_a_token() -> None:
    """The URL may have been ws:// or wss://; another token or URL, or nothing, gets 403."""
    handle = partial(serve_call, make_agent=OfflineAgent)
    async with VoiceServer(Config(voice_agent_port=0, twilio_auth_token="token"), handle) as server:
        target = "/media-stream?a=b"
        good = f"://127.0.0.1:{server.port}{target}"
        assert await connect_signed(server, f"wss{good}", target) == 101
        assert await connect_signed(server, f"ws{good}", target) == 101
        assert await connect_signed(server, f"wss{good}c", target) == 403
        assert await connect_signed(server, None, target) == 403


async def test_behind_a_proxy_the_public_url_is_signed() -> None:
    """What the request itself says about its host doesn't count then."""
    config = Config(
        voice_agent_port=0,
        twilio_auth_token="token",
        voice_agent_public_url="wss://voice.example.com/calls",
    )
    async with VoiceServer(config, partial(serve_call, make_agent=OfflineAgent)) as server:
        own = f"ws://127.0.0.1:{server.port}/media-stream"
        public = "wss://voice.example.com/calls"
        assert await connect_signed(server, public, "/media-stream") == 101
        assert await connect_signed(server, own, "/media-stream") == 403


async def test_one_call_too_many_is_refused_and_counted() -> None:
    """With 503; when another ends there is room again."""
    config = Config(voice_agent_port=0, voice_agent_max_calls=1)
    async with VoiceServer(config, partial(serve_call, make_agent=OfflineAgent)) as server:
        async with StreamClient(server.port) as first:
            await first.begin()
            await first.hear()
            with pytest.raises(InvalidStatus, match="503"):
                await StreamClient(server.port).__aenter__()
        await until(lambda: server.health.calls == 0)
        async with StreamClient(server.port) as third:
            await third.begin()
            await third.hear()
        metrics = await get_text(server.port, "/metrics")
    assert 'voice_agent_refused_total{reason="calls"} 1.0' in metrics
    assert "voice_agent_calls_total 2.0" in metrics


async def test_a_stream_that_says_nothing_is_closed() -> None:
    """Its other end is gone, or was never a call."""
    handle = partial(serve_call, make_agent=OfflineAgent, idle_s=0.1)
    async with (
        VoiceServer(Config(voice_agent_port=0), handle) as server,
        StreamClient(server.port) as client,
    ):
        await client.begin()
        assert await client.closed() == (1000, "")


async def test_a_message_that_is_too_large_closes_its_connection() -> None:
    """With 1009; the limit is a setting."""
    config = Config(voice_agent_port=0, voice_agent_max_message_bytes=2048)
    async with (
        VoiceServer(config, partial(serve_call, make_agent=OfflineAgent)) as server,
        StreamClient(server.port) as client,
    ):
        await client.begin()
        await client.hear()
        await client.websocket.send("x" * 2049)
        assert (await client.closed())[0] == 1009


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
