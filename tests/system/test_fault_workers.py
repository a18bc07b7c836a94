"""Faults of workers and of the machine under them, on the whole system: rows 1, 4, 5, 10 and 40."""

import asyncio
import os
import signal
import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trustme

from loadtest import recording
from loadtest.sip_phone import ActiveCall
from tests.supervisor.few_fds import no_fds_left
from tests.supervisor.stack import RunningStack
from tests.system import callers, wire
from tests.system.wire import Passing, RtpTap

CALLS = 100
SECONDS = 10.0
LONGEST_GAP_MS = 1000.0
"""At the 99th percentile: 46 to 66 ms on a quiet machine, as `python -m loadtest.chaos` measures; a
busy one must pass as well. A death that only the heartbeat shows costs more than this."""
PARKED_AFTER = 6


@pytest.fixture(scope="module")
def stack(asterisk_rootfs: Path) -> Iterator[RunningStack]:
    """The whole system on the real Asterisk, which tests leave as it was."""
    with RunningStack(real=True, settings={"STREAM_CONNECT_BUDGET": "2"}) as running:
        yield running
    assert "Traceback" not in running.supervisor.log


def busy_worker(stack: RunningStack) -> int:
    """The number of the worker that has the only call."""
    (busy,) = (int(worker["worker"]) for worker in stack.workers() if worker["calls"])
    return busy


async def check_unbroken(call: ActiveCall) -> None:
    """The caller of a call that is over has missed nothing."""
    heard = recording.continuity((await call.record).packets)
    assert (heard.lost, heard.duplicates, heard.ssrc_changes) == (0, 0, 0)


@pytest.mark.asterisk
async def test_a_worker_of_a_hundred_calls_dies(stack: RunningStack) -> None:
    """Rows 1 and 9: SIGKILL; in the RTP to Asterisk a gap, same SSRC, and the next number.

    To be killed for memory is the same signal (the kernel's OOM killer sends SIGKILL).
    """
    ports = stack.workers()[0]["ports"]
    with RtpTap(range(ports["first"], ports["last"] + 1)) as tap:
        calling = asyncio.create_task(callers.place(stack.sip_uri, CALLS, SECONDS, 50.0))
        await stack.until_up(CALLS)
        await asyncio.to_thread(stack.kill_worker, 0)
        records = await calling
    assert callers.wrong(records) == []
    placed = stack.events("call_placed")[-CALLS:]
    moved = tap.streams(line["port"] for line in placed if line["worker"] == 0)
    assert len(moved) == len(stack.events("call_moved")) == CALLS // 2
    assert [broken for stream in moved for broken in wire.breaks(stream)] == []
    check_gaps(moved)
    await stack.until(stack.is_ok, "the worker is replaced")
    await stack.until_idle()


def check_gaps(streams: list[list[Passing]]) -> None:
    """How long Asterisk got nothing, and that timestamps follow the clock over the gap."""
    gaps_ms = sorted(wire.longest_gap_ms(stream) for stream in streams)
    assert statistics.quantiles(gaps_ms, n=100)[98] <= LONGEST_GAP_MS, gaps_ms
    for stream in streams:
        span_ms = (stream[-1].at_ns - stream[0].at_ns) / 1e6
        by_timestamp_ms = 20 * (len(stream) - 1 + wire.missing_frames(stream))
        assert abs(by_timestamp_ms - span_ms) < 100


@pytest.mark.asterisk
async def test_out_of_descriptors_in_a_worker(stack: RunningStack) -> None:
    """Row 10: workers can't open a stream for a new caller, who is refused; the others go on."""
    async with stack.calling() as call:
        await stack.until_up()
        pid = int(stack.workers()[busy_worker(stack)]["pid"])
        other = int(stack.workers()[1 - busy_worker(stack)]["pid"])
        async with no_fds_left(pid, other):
            await stack.check_refused()
        await stack.until_up()
        async with stack.calling():
            await stack.until_up(2)
    await check_unbroken(call)
    await stack.until_idle()


@pytest.mark.asterisk
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is no CPU to take away")
async def test_a_cpu_disappears(stack: RunningStack) -> None:
    """Row 40: workers are pinned to a CPU that may still be used; the call goes on unbroken."""
    pid = stack.supervisor.pid
    usable = os.sched_getaffinity(pid)
    async with stack.calling() as call:
        await stack.until_up()
        lost = int(stack.workers()[busy_worker(stack)]["cpu"])
        pids = stack.worker_pids()
        left = usable - {lost}
        try:
            os.sched_setaffinity(pid, left)
            await stack.until(
                lambda: all(os.sched_getaffinity(each) <= left for each in pids), "pinned again"
            )
            await stack.until_audio(call)
        finally:
            os.sched_setaffinity(pid, usable)
        assert stack.is_ok()
        assert sorted(stack.worker_pids()) == sorted(pids)
    await check_unbroken(call)
    await stack.until_idle()


def has_died(stack: RunningStack, deaths: int) -> bool:
    """Whether the first worker's slot has seen so many deaths."""
    return int(stack.workers()[0]["deaths"]) == deaths


async def test_a_worker_that_crashes_again_and_again() -> None:
    """Row 4: its slot is parked after growing pauses, metrics tell, and the other one serves."""
    with RunningStack() as stack:
        async with stack.calling() as call:
            await stack.until_up()
            for deaths in range(1, PARKED_AFTER + 1):
                await stack.until(lambda: stack.workers()[0]["state"] == "ready", "ready")
                stack.kill_worker(0)
                noticed = partial(has_died, stack, deaths)
                await stack.until(noticed, "the death is noticed")
            await stack.until(lambda: stack.events("worker_parked"), "parked")
            assert stack.workers()[0]["state"] == "parked"
            assert stack.health()["status"] == "degraded"
            _, metrics = stack.http("GET", "/metrics")
            labels = f'{{cpu="{stack.workers()[0]["cpu"]}",worker="0"}}'
            assert f"ots_worker_up{labels} 0.0" in metrics
            assert f"ots_worker_deaths_total{labels} {PARKED_AFTER}.0" in metrics
            await stack.until_audio(call)
            async with stack.calling() as another:
                await stack.until_audio(another)
                assert stack.workers()[1]["calls"] == 2
        assert (await call.record).ended_by == "caller"
        await stack.until_idle()


async def test_a_worker_that_cannot_start_again(tmp_path: Path) -> None:
    """Row 5: what it needs is gone: exit code 78, no second try, and its call is elsewhere."""
    ca_file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(ca_file)
    with RunningStack(settings={"STREAM_CA_FILE": str(ca_file)}) as stack:
        async with stack.calling() as call:
            await stack.until_up()
            ca_file.write_text("no certificate")
            victim = busy_worker(stack)
            stack.kill_worker(victim, signal.SIGKILL)
            await stack.until(
                lambda: stack.workers()[victim]["state"] == "cannot start", "given up"
            )
            await stack.until_audio(call)
            assert stack.workers()[1 - victim]["calls"] == 1
            told, noted = stack.events("worker_cannot_start")
            assert f"STREAM_CA_FILE is '{ca_file}'" in told["reason"]
            assert noted["exit_code"] == os.EX_CONFIG
        assert (await call.record).ended_by == "caller"
        await stack.until_idle()
