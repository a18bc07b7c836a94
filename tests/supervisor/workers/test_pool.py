"""The worker pool with real processes: started, pinned, watched, replaced, stopped."""

import asyncio
import os
import select
import signal
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shim.control import CallRefused, CallSpec, StartCall, StopWorker
from supervisor.workers.slot import SlotState
from tests.shim.polling import until
from tests.supervisor.worker_rig import CPUS, QUICK, PoolRig, is_alive

STUCK_LIMIT_S = 2.0
SPEC = CallSpec("CA1", "MZ1", "AC1", "c1", 28_100, "ws://127.0.0.1:1/", 1, 2, 3, 4)


async def test_all_workers_get_ready_on_their_cpus() -> None:
    """Each slot has a process of its own that stays on its CPU."""
    async with PoolRig() as rig:
        await rig.pool.start()
        pids = await rig.ready()
        assert len(set(pids)) == 2
        for slot in rig.pool.slots:
            assert os.sched_getaffinity(slot.pid) == {slot.cpu}
            assert slot.cpu == CPUS[slot.index % len(CPUS)]
            assert slot.state is SlotState.READY
        assert sorted(rig.owner.heard) == [("ready", 0), ("ready", 1)]


async def test_a_killed_worker_is_replaced() -> None:
    """SIGKILL is noticed at once by the end of the connection; the other worker stays."""
    async with PoolRig() as rig:
        await rig.pool.start()
        victim, other = await rig.ready()
        killed_at = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        await until(lambda: rig.owner.lost_at, "the loss is reported")
        assert rig.owner.lost_at[0] - killed_at < 0.5
        await rig.replaced(0, victim)
        assert rig.pool.slots[1].pid == other
        assert rig.pool.slots[0].deaths.total == 1
        assert rig.owner.heard[2:] == [("lost", 0), ("ready", 0)]


async def test_a_stopped_worker_is_killed_and_replaced() -> None:
    """A worker whose loop stands still is noticed and killed within 2 s."""
    async with PoolRig() as rig:
        await rig.pool.start()
        victim, _ = await rig.ready()
        stopped_at = time.monotonic()
        os.kill(victim, signal.SIGSTOP)
        await until(lambda: rig.owner.lost_at, "the loss is reported")
        assert rig.owner.lost_at[0] - stopped_at < STUCK_LIMIT_S
        await rig.replaced(0, victim)
        assert not is_alive(victim)


@pytest.mark.skipif(len(CPUS) < 2, reason="needs a second CPU to move to")
async def test_a_cpu_is_taken_away() -> None:
    """Workers whose CPU may not be used any more are pinned to one that may, and go on."""
    async with PoolRig() as rig:
        await rig.pool.start()
        pids = await rig.ready()
        os.sched_setaffinity(0, CPUS[:1])
        try:
            await until(lambda: os.sched_getaffinity(pids[1]) == {CPUS[0]}, "pinned again")
        finally:
            os.sched_setaffinity(0, CPUS)
        assert rig.note_pids() == pids
        assert rig.pool.slots[1].cpu == CPUS[0]


async def test_a_worker_that_cannot_start_is_left_alone() -> None:
    """Exit code 78 says that starting again won't help: one try per slot, no storm."""
    async with PoolRig() as rig:
        rig.environment["ORPHAN_GRACE"] = "soon"
        with capture_logs() as logs:
            await rig.pool.start()
            slots = rig.pool.slots
            await until(lambda: all(s.state is SlotState.CANNOT_START for s in slots), "given up")
        assert [line["exit_code"] for line in logs if line["event"] == "worker_cannot_start"] == [
            78,
            78,
        ]
        assert all(slot.deaths.total == 0 and slot.pid == 0 for slot in slots)
        assert rig.owner.heard == []


async def test_crashing_again_and_again() -> None:
    """A worker that always crashes is started with growing pauses, then its slot is parked."""
    async with PoolRig() as rig:
        rig.environment["PYTHONHASHSEED"] = "not a number"  # the interpreter itself gives up
        started_at = time.monotonic()
        await rig.pool.start()
        slots = rig.pool.slots
        await until(lambda: all(slot.state is SlotState.PARKED for slot in slots), "parked")
        pauses_s = 2 * QUICK.first_s + QUICK.first_s
        assert time.monotonic() - started_at > pauses_s
        assert [slot.deaths.total for slot in slots] == [QUICK.park_after] * 2


async def test_one_slot_is_parked_and_others_serve() -> None:
    """Deaths of one worker are not held against the others."""
    async with PoolRig() as rig:
        await rig.pool.start()
        victim, other = await rig.ready()
        slot = rig.pool.slots[0]
        for _ in range(QUICK.park_after - 1):
            os.kill(victim, signal.SIGKILL)
            victim = await rig.replaced(0, victim)
        os.kill(victim, signal.SIGKILL)
        await until(lambda: slot.state is SlotState.PARKED, "parked")
        assert [slot.state for slot in rig.pool.slots] == [SlotState.PARKED, SlotState.READY]
        assert rig.pool.slots[1].pid == other
        assert ("lost", 1) not in rig.owner.heard


async def test_a_silent_worker_is_killed() -> None:
    """A worker that doesn't say Hello in time is started again."""
    async with PoolRig(hello_timeout_s=2.0) as rig:
        await rig.pool.start()
        await until(lambda: rig.pool.slots[0].pid, "started")
        mute = rig.pool.slots[0].pid
        os.kill(mute, signal.SIGSTOP)
        assert not rig.pool.slots[0].takes_calls, "it was too quick for this test"
        await rig.replaced(0, mute)
        assert not is_alive(mute)


async def test_what_a_dying_worker_said_last_is_heard() -> None:
    """Its death is acted on after its last messages, even when both are there at once."""
    async with PoolRig() as rig:
        await rig.pool.start()
        pid, _ = await rig.ready()
        messages = 100
        death = os.pidfd_open(
            pid
        )  # shows it even when asyncio's own thread reaps the process first
        for _ in range(messages):
            rig.pool.send(0, StartCall(SPEC))  # without a socket: refused one by one
        rig.pool.send(0, StopWorker())
        # Our loop stands still until it is dead, so that all of this is there at once.
        select.select([death], [], [])
        os.close(death)
        await rig.replaced(0, pid)
        refused = [message for _, message in rig.owner.messages if isinstance(message, CallRefused)]
        assert len(refused) == messages
        assert rig.owner.heard[2:] == [("lost", 0), ("ready", 0)]
        assert rig.pool.slots[0].deaths.total == 1


async def test_stop_leaves_nothing() -> None:
    """After stop there is no worker and no socket file."""
    async with PoolRig() as rig:
        await rig.pool.start()
        await rig.ready()
        await rig.pool.stop()
        assert rig.alive() == []
        assert not rig.socket_path.exists()
        assert ("lost", 0) not in rig.owner.heard


@pytest.mark.parametrize("turns", [0, 1, 3, 10])
async def test_stop_in_the_middle_of_the_start(turns: int) -> None:
    """Workers that are just being started are stopped too, without waiting for a time-out."""
    before = child_pids()
    async with PoolRig() as rig:
        await rig.pool.start()
        for _ in range(turns):
            await asyncio.sleep(0)
        began = time.monotonic()
        await rig.pool.stop()
        await until(lambda: child_pids() <= before, "all are gone", within_s=1)
        assert time.monotonic() - began < 3.0


async def test_a_stopped_worker_does_not_hold_up_stop() -> None:
    """A worker that can't hear the request is killed at the end of the time."""
    async with PoolRig(stop_timeout_s=0.5) as rig:
        await rig.pool.start()
        pid, _ = await rig.ready()
        os.kill(pid, signal.SIGSTOP)
        await rig.pool.stop()
        assert rig.alive() == []


def child_pids() -> set[int]:
    """The processes that this process has started and that still run."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {pid for pid in map(int, children) if is_alive(pid)}
