"""What callers on the real Asterisk notice when parts of the system die: next to nothing."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from loadtest.phone_plan import CallRecord
from tests.system import callers
from tests.system.proxied_stack import ProxiedStack, proxied_stack

pytestmark = pytest.mark.asterisk

CALLS = 20
SECONDS = 12.0
LARGEST_GAP_MS = 400.0
"""On a quiet machine the gaps are 40 to 65 ms (`python -m loadtest.chaos` measures them). A test
must also pass on a busy one, and a call that is not moved at all has a gap of seconds."""


@pytest.fixture
async def stack(asterisk_rootfs: Path) -> AsyncIterator[ProxiedStack]:
    """The whole system with two workers, whose ARI comes through a proxy."""
    async with proxied_stack(WORKERS="2") as running:
        yield running


async def during_calls(
    stack: ProxiedStack, harm: Callable[[], Awaitable[None]]
) -> list[CallRecord]:
    """Do harm while calls are up: nobody is dropped or hears another, and nothing is left."""
    calling = asyncio.create_task(callers.place(stack.sip_uri, CALLS, SECONDS, 20.0))
    await stack.until_up(CALLS)
    await harm()
    records = await calling
    assert callers.wrong(records) == []
    await stack.until_idle()
    return records


async def test_worker_dies(stack: ProxiedStack) -> None:
    """Rows 1 and 9: SIGKILL; its calls go on elsewhere."""

    async def kill() -> None:
        await asyncio.to_thread(stack.kill_worker, 0)

    records = await during_calls(stack, kill)
    assert callers.longest_gap_ms(records) <= LARGEST_GAP_MS
    assert len(stack.events("call_moved")) == CALLS // 2


async def test_worker_hangs(stack: ProxiedStack) -> None:
    """Row 2: SIGSTOP; noticed and killed within 2 s, then its calls go on."""

    async def stop() -> None:
        await asyncio.to_thread(stack.kill_worker, 1, signal.SIGSTOP)

    records = await during_calls(stack, stop)
    assert callers.longest_gap_ms(records) < 2000
    assert len(stack.events("worker_stuck")) >= 1


async def test_supervisor_dies(stack: ProxiedStack) -> None:
    """Row 6: SIGKILL and a new start; workers and calls are adopted, and the audio has no gap."""
    records = await during_calls(stack, stack.restart_supervisor)
    assert callers.longest_gap_ms(records) < LARGEST_GAP_MS
    assert len(stack.events("call_adopted")) == CALLS
    assert not stack.events("orphan_removed")


async def test_ari_is_cut(stack: ProxiedStack) -> None:
    """Row 14: a reset; audio is untouched, and the connection is back within 1 s."""

    async def cut() -> None:
        stack.proxy.cut()
        await stack.until(lambda: len(stack.events("ari_connected")) == 2, "connected", 1.5)

    records = await during_calls(stack, cut)
    assert callers.longest_gap_ms(records) < LARGEST_GAP_MS


async def test_callers_hang_up_while_ari_is_away(stack: ProxiedStack) -> None:
    """Row 16: their ends are found after the reconnect, and the workers are freed."""
    calling = asyncio.create_task(callers.place(stack.sip_uri, CALLS, 4.0, 20.0))
    await stack.until_up(CALLS)
    stack.proxy.refusing = True
    stack.proxy.cut()
    records = await calling
    assert all(record.ended_by == "caller" for record in records)
    assert stack.health()["active_sessions"] == CALLS
    stack.proxy.refusing = False
    await stack.until(stack.is_ok, "connected again", 15)
    await stack.until_idle()


async def test_asterisk_dies(stack: ProxiedStack) -> None:
    """Row 17: all its calls are closed, and workers serve new ones when it is back."""
    pids = stack.worker_pids()
    calling = asyncio.create_task(callers.place(stack.sip_uri, 4, 3.0, 20.0))
    await stack.until_up(4)
    stack.asterisk.kill()
    await asyncio.to_thread(stack.start_asterisk)
    await stack.until(stack.is_ok, "connected again", 15)
    await stack.until(lambda: stack.health()["active_sessions"] == 0, "calls are closed", 15)
    await calling
    record = await stack.call(seconds=1.0)
    assert record.outcome == "answered"
    await stack.until_idle()
    assert sorted(stack.worker_pids()) == sorted(pids)


async def test_callers_hang_up_at_each_step(stack: ProxiedStack) -> None:
    """Row 22: after 0 to 38 ms, CANCEL or BYE; nothing is left, whichever step it was."""
    plans = [{"seconds": step * 0.002} for step in range(20)]
    await asyncio.gather(*(stack.call(**plan) for plan in plans))
    # The answer may cross the CANCEL: then the call is up, and ends after half a second.
    await asyncio.gather(*(stack.call(cancel_after=0.0, seconds=0.5) for _ in range(5)))
    await stack.until_idle()


async def test_rolling_restart(stack: ProxiedStack) -> None:
    """All workers are replaced under calls: nobody is dropped."""
    before = stack.worker_pids()

    async def renew() -> None:
        os.kill(stack.supervisor.pid, signal.SIGHUP)
        await stack.until(lambda: stack.events("renewed"), "renewed", 15)

    records = await during_calls(stack, renew)
    assert callers.longest_gap_ms(records) <= LARGEST_GAP_MS
    assert not set(before) & set(stack.worker_pids())


async def test_callers_wait_for_a_supervisor(stack: ProxiedStack) -> None:
    """A call that comes while there is none is served as soon as one is back."""
    stack.supervisor.kill()
    calling = asyncio.create_task(stack.call(seconds=5.0))
    await asyncio.to_thread(stack.start_supervisor)
    await stack.until_up(1)
    record = await calling
    assert (record.outcome, record.ended_by) == ("answered", "caller")
    await stack.until_idle()
