"""The link to ARI's events while the connection stands, and its end."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from supervisor.ari.events import AriEvent
from tests.supervisor.ari_server import APP, AriServer, until
from tests.supervisor.link_owner import UP, Owner, event, running


@pytest.fixture
async def server() -> AsyncIterator[AriServer]:
    """An ARI that lets the test send events."""
    async with AriServer() as running_server:
        yield running_server


async def test_events_come_in_order(server: AriServer) -> None:
    """The owner hears that the link is up, and then every event, as it was sent."""
    owner = Owner(server.base)
    async with running(owner):
        await until(lambda: bool(server.listeners))
        for n in range(2000):
            await server.send(event("ChannelDtmfReceived", digit=str(n)))
        await until(lambda: len(owner.told) == 2001)
    assert owner.told[0] == UP
    assert [item.digit for item in owner.told if isinstance(item, AriEvent)] == [
        str(n) for n in range(2000)
    ]
    assert ("GET", "/events", {"app": APP, "subscribeAll": "false"}) in server.seen
    assert (owner.link.counters.events, owner.link.counters.connects) == (2000, 1)


async def test_rest_calls_use_the_same_link(server: AriServer) -> None:
    """They work while events come, and after the link has stood down."""
    owner = Owner(server.base)
    async with running(owner) as task:
        await until(owner.ups)
        await owner.link.answer("1")
        owner.link.stand_down()
        await task
        assert owner.states == [UP, (False, "stood down")]
        assert not owner.link.connected
        await owner.link.answer("1")
    assert server.count("POST", "/channels/1/answer") == 2


async def test_an_unreadable_event(server: AriServer) -> None:
    """It is counted and logged without its content, and the next ones come."""
    owner = Owner(server.base)
    with capture_logs() as logs:
        async with running(owner):
            await until(owner.ups)
            await server.send("{+15550001000")
            await server.listeners[-1][1].send_bytes(b"\xff\x00")
            await server.send(event("StasisEnd"))
            await until(lambda: owner.events == ["StasisEnd"])
    assert owner.link.counters.unreadable_events == 2
    assert [log["event"] for log in logs].count("ari_event_unreadable") == 2
    assert "15550001000" not in str(logs)


def fail() -> None:
    """Do what no callback should."""
    raise RuntimeError("the owner's own mistake")


async def test_a_failing_owner(server: AriServer) -> None:
    """An exception in a callback is logged and counted, and the link goes on."""
    owner = Owner(server.base)
    owner.reactions["StasisStart"] = fail
    with capture_logs() as logs:
        async with running(owner):
            await until(owner.ups)
            await server.send(event("StasisStart"))
            await server.send(event("StasisEnd"))
            await until(lambda: owner.events == ["StasisStart", "StasisEnd"])
    assert owner.link.counters.failed_callbacks == 1
    assert {"event": "ari_callback_failed", "what": "StasisStart"}.items() <= logs[1].items()


async def pass_time(seconds: float) -> None:
    """Keep a rhythm between events; the link works meanwhile."""
    end = time.monotonic() + seconds
    await until(lambda: time.monotonic() >= end)


async def test_events_are_signs_of_life(server: AriServer) -> None:
    """As long as events come, nobody waits for an answer to a ping."""
    server.answers_pings = False
    owner = Owner(server.base, ping_idle_s=0.5, ping_reply_s=0.2)
    async with running(owner):
        await until(owner.ups)
        for _ in range(12):
            await server.send(event("ChannelVarset"))
            await pass_time(0.1)
        assert owner.states == [UP]
        assert len(owner.events) == 12


async def test_pongs_are_signs_of_life(server: AriServer) -> None:
    """A quiet link lasts, and answers pings as well."""
    owner = Owner(server.base, ping_idle_s=0.05)
    async with running(owner):
        await until(owner.ups)
        await server.listeners[-1][1].ping(b"there?")
        await until(lambda: server.pings >= 5 and server.pongs == [b"there?"])
        assert owner.states == [UP]


async def test_closing_before_running(server: AriServer) -> None:
    """A link that was closed does not start."""
    owner = Owner(server.base)
    await owner.link.close()
    await asyncio.wait_for(owner.link.run(), 1)
    assert server.seen == []


async def test_cancellation(server: AriServer) -> None:
    """A cancelled link closes its connection, and can be closed."""
    owner = Owner(server.base)
    task = asyncio.create_task(owner.link.run())
    await until(owner.ups)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: server.listeners[0][1].closed)
    await owner.link.close()


async def test_nothing_is_left(server: AriServer) -> None:
    """After all is closed there is no task but the test's own and the server's."""
    before = asyncio.all_tasks()
    owner = Owner(server.base)
    async with running(owner):
        await until(owner.ups)
        await owner.link.answer("1")
    await until(lambda: asyncio.all_tasks() == before)
