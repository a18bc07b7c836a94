"""Counters of /metrics only grow, whatever dies: one that falls looks like a burst of events."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.supervisor.stack import RunningStack


@pytest.fixture
def stack() -> Iterator[RunningStack]:
    """The whole system."""
    with RunningStack() as running:
        yield running


def counters(stack: RunningStack) -> dict[str, float]:
    """All values that must only grow, by name and labels; a CPU may change."""
    return {
        f"{sample.name} {sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(stack.http("GET", "/metrics")[1])
        for sample in family.samples
        if sample.name.startswith("ots_")
        and sample.name.endswith(("_total", "_bucket", "_count", "_sum"))
    }


def frames(values: dict[str, float]) -> float:
    """Frames sent to callers, by all workers."""
    return sum(value for name, value in values.items() if "ots_frames_sent" in name)


def counts_on(count: Callable[[], float], so_far: float) -> bool:
    """Whether a count has grown."""
    return count() > so_far


async def test_over_deaths_and_replacements(stack: RunningStack) -> None:
    """A worker is killed, replaced, and killed, with calls up: no counter falls, frames go on."""
    fallen: list[str] = []
    before = counters(stack)

    def count() -> float:
        nonlocal before
        now = counters(stack)
        fallen.extend(name for name, value in before.items() if now.get(name, -1) < value)
        before = now
        return frames(now)

    async with stack.calling() as one, stack.calling() as another:
        await stack.until_up(2)
        for step in ("kill", "replace", "kill"):
            if step == "kill":
                stack.kill_worker(0)
            else:
                assert await stack.command("restart", "0") == 0
            await stack.until(stack.is_ok, "the worker is back")
            sent = await asyncio.to_thread(count)
            for call in (one, another):
                await stack.until_audio(call)
            await stack.until(partial(counts_on, count, sent), "frames are counted on")
    await stack.until_idle()
    sent = count()
    assert fallen == []
    assert sent < 2 * sum(len(call.heard_since(0)) for call in (one, another))


async def test_over_a_new_supervisor(stack: RunningStack) -> None:
    """Its counters begin at 0 with the workers' that it adopts, and go on from there."""
    async with stack.calling() as call:
        await stack.until_up()
        await stack.until(lambda: frames(counters(stack)) > 50, "frames are counted")
        await stack.restart_supervisor()
        assert len(call.heard_since(0)) > 50
        assert frames(counters(stack)) < len(call.heard_since(0)) - 50
        await stack.until(lambda: frames(counters(stack)) > 0, "frames are counted again")
        assert 'ots_call_handovers_total{reason="supervisor_restarted"} 1.0' in str(
            stack.http("GET", "/metrics")[1]
        )
    await stack.until_idle()
    name = "ots_calls_ended_total"
    assert sum(value for key, value in counters(stack).items() if name in key) == 1
