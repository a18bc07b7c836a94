"""The link to ARI against a server that breaks it, or is not there, in every way."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from supervisor.ari.events import REPLACED
from supervisor.ari.link import LOG_AGAIN_S, TAKEN_OVER
from tests.supervisor.ari_server import (
    AriServer,
    Behaviour,
    abort,
    hangs_up,
    keeps_silent,
    resets,
    says,
    until,
)
from tests.supervisor.link_owner import UP, Owner, event, running

OPEN = "GET /events"
PING = "GET /asterisk/ping"


@pytest.fixture
async def server() -> AsyncIterator[AriServer]:
    """An ARI that lets the test send events."""
    async with AriServer() as running_server:
        yield running_server


@pytest.mark.parametrize("reset", [True, False])
async def test_a_broken_connection(server: AriServer, reset: bool) -> None:
    """After a reset, or an end without a close frame, the link is back within a second."""
    owner = Owner(server.base)
    async with running(owner):
        for n in range(1, 4):
            await break_once(server, owner, n, reset)
    lost = (False, "connection lost")
    assert owner.states == [UP, lost, UP, lost, UP, lost, UP, (False, "stood down")]
    assert owner.link.counters.connects == 4


async def break_once(server: AriServer, owner: Owner, n: int, reset: bool) -> None:
    """Send an event over the nth connection, break it, and see how long it takes."""
    await until(lambda: len(server.listeners) == n and owner.ups() == n)
    await server.send(event("ChannelVarset"))
    await until(lambda: len(owner.events) == n)
    broken_at = time.monotonic()
    abort(server.listeners[-1][0], reset=reset)
    await until(lambda: owner.ups() == n + 1)
    assert time.monotonic() - broken_at < 1.0


async def test_a_polite_end(server: AriServer) -> None:
    """Asterisk's close frame, as when it restarts, is an end like others."""
    owner = Owner(server.base)
    async with running(owner):
        await until(owner.ups)
        await server.listeners[-1][1].close(code=1001)
        await until(lambda: owner.ups() == 2)
    assert owner.states[:3] == [UP, (False, "closed by Asterisk (1001)"), UP]


async def test_silence(server: AriServer) -> None:
    """A peer that does not even answer pings is given up within the bound, and tried again."""
    server.answers_pings = False
    owner = Owner(server.base, ping_idle_s=0.2, ping_reply_s=0.2)
    async with running(owner):
        await until(owner.ups)
        up_at = time.monotonic()
        await until(lambda: len(owner.states) == 2)
        assert 0.35 < time.monotonic() - up_at < 1.4
        server.answers_pings = True
        await until(lambda: owner.ups() == 2)
    assert owner.states[1] == (False, "no answer to a ping within 0.2 s")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ({PING: [says(503)]}, "not ready (503)"),
        ({PING: [says(404)]}, "no ARI there (404): is it enabled in ari.conf and http.conf?"),
        ({PING: [says(500)]}, "answered with 500"),
        ({PING: [keeps_silent]}, "no answer in time"),
        ({PING: [hangs_up]}, "closed without an answer (is sessionlimit in http.conf too low?)"),
        ({PING: [resets]}, "connection reset by peer"),
        ({OPEN: [keeps_silent]}, "no answer in time"),
        ({OPEN: [says(403)]}, "user, address or permission refused (403)"),
        ({OPEN: [says(200)]}, "answered with 200"),
        ({OPEN: [hangs_up]}, "closed without an answer (is sessionlimit in http.conf too low?)"),
    ],
)
async def test_what_it_waits_for(
    server: AriServer, script: dict[str, list[Behaviour]], reason: str
) -> None:
    """The owner and the log are told once why there is no connection, however often it is tried."""
    good = {request: server.script.pop(request) for request in script if request in server.script}
    server.script |= script
    owner = Owner(server.base, request_timeout_s=0.3 if reason == "no answer in time" else 5.0)
    with capture_logs() as logs:
        async with running(owner):
            await until(lambda: owner.link.counters.failed_connects >= 2)
            assert owner.states == [(False, reason)]
            for request in script:
                server.script.pop(request)
            server.script |= good
            await until(owner.ups)
    waiting = [log for log in logs if log["event"] == "ari_unreachable"]
    assert waiting == [
        {"event": "ari_unreachable", "base": server.base, "reason": reason, "log_level": "warning"}
    ]


async def test_wrong_password(server: AriServer) -> None:
    """It says so, goes on trying, and never shows the password."""
    owner = Owner(server.base, password="s3cret")
    with capture_logs() as logs:
        async with running(owner):
            await until(lambda: owner.link.counters.failed_connects >= 2)
    assert owner.states == [(False, "wrong user or password (401)")]
    assert "wrong user or password (401)" in str(logs)
    assert "s3cret" not in str(logs)
    assert server.count("GET", "/events") == 0


async def test_asterisk_starts_late(server: AriServer) -> None:
    """A refused connection is tried again until somebody listens."""
    await server.stop()
    owner = Owner(server.base)
    async with running(owner):
        await until(lambda: owner.link.counters.failed_connects >= 2)
        assert owner.states == [(False, "connection refused")]
        await server.start()
        await until(owner.ups)


async def test_no_tls_there(server: AriServer) -> None:
    """https:// to a port that speaks plain HTTP is called what it is."""
    owner = Owner(server.base.replace("http:", "https:"))
    async with running(owner):
        await until(lambda: bool(owner.states))
    assert owner.states[0][1].startswith("no TLS connection: ")


async def test_a_reason_is_logged_again(server: AriServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reason that lasts comes again, at most once in the given time; a new one at once."""
    assert LOG_AGAIN_S == 30.0
    monkeypatch.setattr("supervisor.ari.link.LOG_AGAIN_S", 0.3)
    server.script[PING] = [says(503), says(500)]
    owner = Owner(server.base)
    started = time.monotonic()
    with capture_logs() as logs:
        async with running(owner):
            await until(lambda: len(logs) == 3)
    assert time.monotonic() - started > 0.3
    reasons = [log["reason"] for log in logs]
    assert reasons == ["not ready (503)", "answered with 500", "answered with 500"]


async def test_no_upgrade_is_left_behind(server: AriServer) -> None:
    """An Asterisk that hangs is not sent an upgrade, on which it would act much later."""
    server.script[PING] = [keeps_silent]
    owner = Owner(server.base, request_timeout_s=0.3)
    async with running(owner):
        await until(lambda: owner.link.counters.failed_connects >= 2)
    assert {path for _, path, _ in server.seen} == {"/asterisk/ping"}


async def test_replaced_and_standing_down(server: AriServer) -> None:
    """The owner hears that a newer listener has the app, stands down, and that is the end."""
    owner = Owner(server.base)
    owner.reactions[REPLACED] = owner.link.stand_down
    async with running(owner) as task:
        await until(owner.ups)
        await server.send(event(REPLACED))
        await asyncio.wait_for(task, 1)
        assert owner.events == [REPLACED]
        assert owner.states == [UP, (False, TAKEN_OVER)]
    assert len(server.listeners) == 1


async def test_replaced_and_not_standing_down(
    server: AriServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An owner who wants the app back gets it, but not in a fight: after the longest wait."""
    monkeypatch.setattr("supervisor.ari.link.BACK_OFF_LIMIT_S", 0.6)
    owner = Owner(server.base)
    async with running(owner):
        await until(owner.ups)
        replaced_at = time.monotonic()
        await server.send(event(REPLACED))
        await until(lambda: owner.ups() == 2)
        assert server.opened_at[1] - replaced_at >= 0.6
    assert owner.events == [REPLACED]


async def test_another_apps_replacement(server: AriServer) -> None:
    """That an app which is not ours was replaced is an event like others."""
    owner = Owner(server.base)
    async with running(owner):
        await until(owner.ups)
        await server.send(json.dumps({"type": REPLACED, "application": "other"}))
        await until(lambda: owner.events == [REPLACED])
        assert owner.link.connected


async def test_replaced_by_an_attempt_of_our_own(server: AriServer) -> None:
    """A late upgrade of ours that replaces our connection is no reason to stand down."""
    server.script[OPEN] = [keeps_silent, server.listen]
    owner = Owner(server.base, request_timeout_s=0.5)
    async with running(owner):
        await until(owner.ups)
        replaced_at = time.monotonic()
        await server.send(event(REPLACED))
        await until(lambda: owner.ups() == 2)
        assert time.monotonic() - replaced_at < 1.0
        await server.send(event("StasisEnd"))
        await until(lambda: owner.events == ["StasisEnd"])


async def test_standing_down_while_waiting() -> None:
    """It ends the wait for a connection that does not come."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and no listen: refused
        owner = Owner(f"http://127.0.0.1:{taken.getsockname()[1]}")
        async with running(owner) as task:
            await until(lambda: owner.link.counters.failed_connects >= 3)
            owner.link.stand_down()
            await asyncio.wait_for(task, 1)
