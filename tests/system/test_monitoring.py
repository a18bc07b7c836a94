"""A real Prometheus looks at the whole system: queries answer, and alerts fire."""

import asyncio
import json
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from supervisor.workers.health import Backoff
from tests.deploy.test_prometheus import DASHBOARD, queries
from tests.prometheus_instance import PrometheusInstance
from tests.supervisor.stack import RunningStack
from tests.system import callers

pytestmark = pytest.mark.prometheus

CALLS = 50
SECONDS = 12.0
PATIENCE_S = 60.0


@pytest.fixture
def watch(
    prometheus_programs: Path, tmp_path: Path
) -> Callable[[RunningStack], PrometheusInstance]:
    """Makes a Prometheus that scrapes a stack."""

    def make(stack: RunningStack) -> PrometheusInstance:
        target = f"127.0.0.1:{stack.environment['HTTP_PORT']}"
        return PrometheusInstance(prometheus_programs, tmp_path / "prometheus", target)

    return make


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.asterisk)])
def stack(request: pytest.FixtureRequest) -> Iterator[RunningStack]:
    """The whole system, on the stand-in and on the real Asterisk."""
    if request.param == "real":
        request.getfixturevalue("asterisk_rootfs")
    with RunningStack(real=request.param == "real") as running:
        yield running


def unanswered(prometheus: PrometheusInstance, asked: set[str]) -> set[str]:
    """The queries that answer with nothing at this moment."""
    return {query for query in asked if not prometheus.query(query)}


async def test_the_dashboard_during_fifty_calls(
    stack: RunningStack, watch: Callable[[RunningStack], PrometheusInstance]
) -> None:
    """Every query of the dashboard answers with data while calls come, are up, and end."""
    asked = set(queries(json.loads(DASHBOARD.read_text())["panels"]))
    assert len(asked) > 40
    with watch(stack) as prometheus:
        calling = asyncio.create_task(callers.place(stack.sip_uri, CALLS, SECONDS, 10.0))
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        most = 0.0
        while asked and asyncio.get_running_loop().time() < deadline:
            asked = await asyncio.to_thread(unanswered, prometheus, asked)
            up = await asyncio.to_thread(prometheus.query, "sum(ots_active_calls)")
            most = max([most, *(float(series["value"][1]) for series in up)])
        assert asked == set()
        records = await calling
        assert [record.outcome for record in records] == ["answered"] * CALLS
        assert most == CALLS
        assert prometheus.broken_rules() == []
        assert not prometheus.firing() & {"OtsWorkerDown", "OtsAsteriskDisconnected"}
        ended = "sum(ots_calls_ended_total)"
        await stack.until(partial(_is, prometheus, ended, CALLS), "all calls are counted")
        await stack.until(partial(_is, prometheus, "sum(ots_frames_lost_total)", 0), "no loss")
    await stack.until_idle()


def _is(prometheus: PrometheusInstance, query: str, value: float) -> bool:
    return [float(series["value"][1]) for series in prometheus.query(query)] == [value]


async def test_an_alert_for_a_worker_that_is_stopped(
    watch: Callable[[RunningStack], PrometheusInstance],
) -> None:
    """Stopped and killed until its slot is parked: both alerts fire, and no other pages."""
    with RunningStack() as stack, watch(stack) as prometheus:
        quiet = await asyncio.to_thread(prometheus.firing)
        assert quiet == set()
        for deaths in range(Backoff().park_after):
            await stack.until(lambda: stack.workers()[1]["state"] == "ready", "a worker")
            stack.kill_worker(1, signal.SIGKILL if deaths else signal.SIGSTOP)
            died = partial(_has_died, stack, deaths + 1)
            await stack.until(died, "the worker is dead")
        expected = {"OtsWorkerDown", "OtsWorkersDie"}
        await stack.until(lambda: expected <= prometheus.firing(), "the alerts fire")
        assert prometheus.firing() == expected


def _has_died(stack: RunningStack, deaths: int) -> bool:
    return int(stack.workers()[1]["deaths"]) == deaths
