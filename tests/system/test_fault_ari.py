"""Faults between supervisor and Asterisk, on the whole system: rows 15 and 18 to 21."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from loadtest import recording
from loadtest.stand_in_faults import EventFault, Faults, RestFault
from tests.supervisor.stack import FALLBACK_HZ, RunningStack, hears
from tests.system.proxied_stack import ProxiedStack, proxied_stack

SETUP_TIMEOUT_S = 2
NOTICED_WITHIN_S = 12.0
"""5 s without a word, 5 s without an answer to a ping, and some for a busy machine."""
HANGING_S = 1.0
NEW_CALLS = 8
STEPS = [
    ("POST", "/ari/bridges/voice-agent.*"),
    ("POST", "/ari/channels/externalMedia"),
    ("POST", "/ari/bridges/*/addChannel"),
    ("DELETE", "/ari/bridges/*"),
    ("DELETE", "/ari/channels/*"),
]


@pytest.fixture
async def proxied(asterisk_rootfs: Path) -> AsyncIterator[ProxiedStack]:
    """The whole system on the real Asterisk, whose ARI comes through a proxy."""
    async with proxied_stack(SETUP_TIMEOUT=str(SETUP_TIMEOUT_S)) as running:
        yield running
    assert "Traceback" not in running.supervisor.log


@pytest.fixture(scope="module")
def real(asterisk_rootfs: Path) -> Iterator[RunningStack]:
    """The whole system on the real Asterisk, which tests leave as it was."""
    with RunningStack(real=True) as running:
        yield running
    assert "Traceback" not in running.supervisor.log


@pytest.fixture(scope="module")
def stand_in() -> Iterator[RunningStack]:
    """The whole system on the stand-in, with little patience in the set-up."""
    with RunningStack(settings={"SETUP_TIMEOUT": str(SETUP_TIMEOUT_S)}) as running:
        yield running
    assert "Traceback" not in running.supervisor.log


@pytest.mark.asterisk
async def test_ari_goes_silent(proxied: ProxiedStack) -> None:
    """Row 15: nothing comes any more and nothing is closed: our pings notice, then it is mended.

    The caller who stays hears no gap; the one who hangs up meanwhile is missed, and found.
    """
    async with proxied.calling() as stays, proxied.calling() as leaves:
        await proxied.until_up(2)
        proxied.proxy.silent = True
        began = time.monotonic()
        leaves.hang_up()
        await leaves.record
        await proxied.until(
            lambda: not proxied.health()["ari"]["connected"], "noticed", NOTICED_WITHIN_S
        )
        assert time.monotonic() - began > 4
        assert proxied.health()["active_sessions"] == 2
        proxied.proxy.silent = False
        proxied.proxy.cut()
        await proxied.until(proxied.is_ok, "connected again", 15)
        await proxied.until_up(1)
        await proxied.until_audio(stays)
    heard = recording.continuity((await stays.record).packets)
    assert (heard.lost, heard.duplicates, heard.ssrc_changes) == (0, 0, 0)
    await proxied.until_idle()


@pytest.mark.asterisk
@pytest.mark.parametrize("delay_ms", [0, 8])
async def test_ari_hangs_in_a_set_up(proxied: ProxiedStack, delay_ms: int) -> None:
    """Row 18: Asterisk's answers stop at some step; callers get the fallback, nothing is left."""
    calling = [asyncio.create_task(proxied.call(seconds=4.0)) for _ in range(5)]
    await asyncio.sleep(delay_ms / 1000)  # waits for nothing: it picks the step
    proxied.proxy.silent = True
    hanging_until = time.monotonic() + SETUP_TIMEOUT_S + HANGING_S
    await proxied.until(lambda: time.monotonic() > hanging_until, "the set-up's time-out")
    proxied.proxy.silent = False
    records = await asyncio.gather(*calling)
    assert all(record.outcome == "answered" for record in records)
    await proxied.until(proxied.is_ok, "connected", 15)
    await proxied.until_idle()
    async with proxied.calling() as call:
        await proxied.until_audio(call)
    await proxied.until_idle()


@pytest.mark.parametrize("done", [False, True], ids=["undone", "done"])
@pytest.mark.parametrize("action", ["status", "hang", "drop"])
@pytest.mark.parametrize(("method", "path"), STEPS)
async def test_a_request_fails(
    stand_in: RunningStack, method: str, path: str, action: str, done: bool
) -> None:
    """Row 18: a request gets 503, no answer ever, or a closed connection; nothing is left of it.

    Whether it took effect or not. The caller is served, or in the dialplan within bounds.
    """
    fault = RestFault(action, method, path, status=503, done=done)  # type: ignore[arg-type]
    stand_in.set_faults(Faults(rest=(fault,)))
    async with stand_in.calling() as call:
        await stand_in.until(
            lambda: stand_in.health()["active_channels"] == 2 or hears(call, FALLBACK_HZ),
            "served, or in the dialplan",
        )
    stand_in.set_faults(Faults())  # what hangs is let go
    await stand_in.until_idle()


async def test_connections_are_closed_without_an_answer(stand_in: RunningStack) -> None:
    """Row 19: each step of the set-up is closed twice before it is answered: it is tried again."""
    closed = closed_count(stand_in)
    faults = tuple(RestFault("drop", method, path, count=2) for method, path in STEPS[:3])
    stand_in.set_faults(Faults(rest=faults))
    async with stand_in.calling() as call:
        await stand_in.until_up()
        await stand_in.until_audio(call)
        assert not hears(call, FALLBACK_HZ)
    stand_in.set_faults(Faults())
    assert closed_count(stand_in) >= closed + 2 * len(faults)
    await stand_in.until_idle()


def closed_count(stack: RunningStack) -> float:
    """The metric that tells of connections which were closed without an answer."""
    _, metrics = stack.http("GET", "/metrics")
    name = "ots_ari_closed_without_answer_total "
    (line,) = (line for line in metrics.splitlines() if line.startswith(name))
    return float(line.removeprefix(name))


@pytest.mark.asterisk
async def test_the_session_limit(real: RunningStack) -> None:
    """Row 19: Asterisk takes no more HTTP sessions; calls wait for that to end, and are served."""
    closed = closed_count(real)
    async with real.calling() as up:
        await real.until_up()
        limit_sessions(real, 1)  # our events have that one
        try:
            calls = [asyncio.create_task(real.call(seconds=6.0)) for _ in range(NEW_CALLS)]
            await real.until(lambda: closed_count(real) > closed, "closed without an answer")
            assert real.health()["ari"]["connected"]
        finally:
            limit_sessions(real, 1000)
        await real.until_up(1 + NEW_CALLS)
        await real.until_audio(up)
        assert all(record.ended_by == "caller" for record in await asyncio.gather(*calls))
    heard = recording.continuity((await up.record).packets)
    assert (heard.lost, heard.ssrc_changes) == (0, 0)
    await real.until_idle()


def limit_sessions(stack: RunningStack, limit: int) -> None:
    """Change http.conf of a running Asterisk, in its own mount namespace."""
    enter = ["nsenter", "--target", str(stack.asterisk.pid), "--mount", "--root"]
    change = f"s/^sessionlimit = .*/sessionlimit = {limit}/"
    subprocess.run([*enter, "sed", "-i", change, "/etc/asterisk/http.conf"], check=True)
    stack.cli("module reload http")


@pytest.mark.parametrize("action", ["duplicate", "delay", "reorder"])
async def test_events_in_disorder(stand_in: RunningStack, action: str) -> None:
    """Row 20: all events come twice, late, or in another order: one call, and one end of it."""
    placed, ended = (len(stand_in.events(name)) for name in ("call_placed", "call_ended"))
    fault = EventFault(action, "*", count=1000, delay_ms=50)  # type: ignore[arg-type]
    stand_in.set_faults(Faults(events=(fault,)))
    async with stand_in.calling() as call:
        await stand_in.until_up()
        await stand_in.until_audio(call)
        assert stand_in.health()["active_sessions"] == 1
    await stand_in.until_idle()
    stand_in.set_faults(Faults())
    assert len(stand_in.events("call_placed")) == placed + 1
    assert len(stand_in.events("call_ended")) == ended + 1


@pytest.mark.asterisk
async def test_channels_that_are_no_callers(real: RunningStack) -> None:
    """Row 21: our ExternalMedia leg and a snoop channel enter the app: there is still one call."""
    placed = len(real.events("call_placed"))
    async with real.calling() as call:
        await real.until_up()
        channels = real.ask_ari("GET", "/channels")
        (caller,) = (channel for channel in channels if channel["name"].startswith("PJSIP/"))
        spy = {"app": real.environment["ARI_APP"], "spy": "both", "snoopId": "a-spy"}
        real.ask_ari("POST", f"/channels/{caller['id']}/snoop", **spy)
        await real.until(lambda: real.left_in_asterisk()["channels"] == 3, "the spy is there")
        await real.until_audio(call)
        assert real.health()["active_sessions"] == 1
        assert len(real.events("call_placed")) == placed + 1
        real.ask_ari("DELETE", "/channels/a-spy")
    await real.until_idle()
