"""The worker pool and its peers: replaced and adopted workers, and those that misbehave."""

import asyncio
import os
import signal
import time

import pytest

from shim.control import CallRefused, Hello, StopWorker
from supervisor.workers.pool import PoolError
from tests.shim.polling import until
from tests.supervisor.worker_rig import Peer, PoolRig, is_alive


def hello(rig: PoolRig, pid: int, worker: int = 0, seat: int = 0, table_id: int = 0) -> Hello:
    """A greeting that the pool would accept, unless it says otherwise."""
    return Hello(worker, seat, pid, [0], table_id or rig.memory.layout.table_id)


async def test_a_worker_is_replaced_by_a_new_one() -> None:
    """The new worker is ready before the old one goes, and nobody is reported as lost."""
    async with PoolRig() as rig:
        await rig.pool.start()
        old, other = await rig.ready()
        replacing = asyncio.create_task(rig.pool.replace(0))
        await until(lambda: ("replaced", 0) in rig.owner.heard, "the new one has taken over")
        new = rig.pool.slots[0].pid
        assert new != old
        assert is_alive(old)
        rig.pool.dismiss(0)
        await replacing
        await until(lambda: not is_alive(old), "the old one is gone")
        assert rig.note_pids() == [new, other]
        assert rig.owner.heard[2:] == [("replaced", 0), ("dismissed", 0)]
        assert rig.pool.slots[0].deaths.total == 0


async def test_a_replacement_that_cannot_start() -> None:
    """The old worker goes on when the new one doesn't get ready; the error comes at once."""
    async with PoolRig() as rig:
        await rig.pool.start()
        pids = await rig.ready()
        rig.environment["ORPHAN_GRACE"] = "soon"
        async with asyncio.timeout(5):
            with pytest.raises(PoolError, match="worker 0 did not get ready"):
                await rig.pool.replace(0)
        assert rig.note_pids() == pids
        assert all(slot.takes_calls for slot in rig.pool.slots)
        assert rig.owner.heard == rig.owner.heard[:2]


async def test_a_replaced_worker_can_die_as_any_other() -> None:
    """The successor of a replaced worker is watched: its death is reported and mended."""
    async with PoolRig() as rig:
        await rig.pool.start()
        await rig.ready()
        replacing = asyncio.create_task(rig.pool.replace(0))
        await until(lambda: ("replaced", 0) in rig.owner.heard, "the new one has taken over")
        rig.pool.dismiss(0)
        await replacing
        (pid, _) = rig.note_pids()
        os.kill(pid, signal.SIGKILL)
        await rig.replaced(0, pid)
        assert rig.owner.heard[4:] == [("lost", 0), ("ready", 0)]


async def test_there_is_nothing_to_replace() -> None:
    """A slot without a worker, or one that is being replaced, is refused in words."""
    async with PoolRig() as rig:
        await rig.pool.start()
        with pytest.raises(PoolError, match="worker 0 is starting"):
            await rig.pool.replace(0)
        await rig.ready()
        first = asyncio.create_task(rig.pool.replace(0))
        await until(lambda: rig.pool.slots[0].coming, "the new one is coming")
        with pytest.raises(PoolError, match="being replaced already"):
            await rig.pool.replace(0)
        await until(lambda: ("replaced", 0) in rig.owner.heard, "the new one has taken over")
        rig.pool.dismiss(0)
        await first
        rig.note_pids()


# Surviving the supervisor


async def test_workers_of_an_earlier_supervisor_are_adopted() -> None:
    """A new pool on the same table goes on with the workers that are alive, and ends them."""
    async with PoolRig() as rig:
        await rig.pool.start()
        pids = await rig.ready()
        processes = [seat.process for slot in rig.pool.slots for seat in slot.seats]
        rig.pool.abandon()
        pool = rig.new_pool()
        await pool.start()
        assert await rig.ready() == pids
        os.kill(pids[0], signal.SIGKILL)
        await rig.replaced(0, pids[0])
        assert ("lost", 0) in rig.owner.heard
        await pool.stop()
        await until(lambda: not rig.alive(), "adopted workers are gone")
        for process in processes:  # they are this test's children still
            assert process is not None
            await process.wait()


# Peers that misbehave


async def test_garbage_restarts_that_worker_only() -> None:
    """A worker that sends what can't be decoded is killed and replaced, the other one stays."""
    impostor = await asyncio.create_subprocess_exec("sleep", "60")
    async with PoolRig() as rig:
        rig.memory.layout.beat(0, 0, time.monotonic_ns())  # an earlier supervisor's worker
        starting = asyncio.create_task(rig.pool.start())
        await until(rig.socket_path.exists, "listening")
        with Peer(rig.socket_path) as peer:
            peer.send(hello(rig, impostor.pid))
            await starting
            _, other = await rig.ready()
            rig.memory.layout.beat(0, 0, time.monotonic_ns())
            assert rig.pool.slots[0].pid == impostor.pid
            peer.send(b"\xc1 no MessagePack")
            assert await peer.receive() is None
        assert await impostor.wait() == -signal.SIGKILL
        await rig.replaced(0, impostor.pid)
        assert rig.pool.slots[1].pid == other
        assert ("lost", 1) not in rig.owner.heard
        rig.pids.discard(impostor.pid)


async def test_strangers_are_turned_away() -> None:
    """Who has no place here is told to stop, and the pool goes on."""
    wrong = ({"worker": 2}, {"worker": -1}, {"seat": 2}, {"seat": -1}, {"table_id": 1})
    async with PoolRig() as rig:
        rig.memory.layout.beat(0, 0, time.monotonic_ns())  # so that it waits for a survivor
        starting = asyncio.create_task(rig.pool.start())
        await until(rig.socket_path.exists, "listening")
        for change in wrong:
            with Peer(rig.socket_path) as peer:
                peer.send(hello(rig, **{"pid": os.getpid(), **change}))
                assert await peer.receive() == StopWorker(), change
        assert not starting.done()
        await starting
        await rig.ready()


async def test_a_second_worker_for_a_slot_is_turned_away() -> None:
    """A slot that has its worker takes no other."""
    async with PoolRig() as rig:
        await rig.pool.start()
        pids = await rig.ready()
        with Peer(rig.socket_path) as peer:
            peer.send(hello(rig, os.getpid()))
            assert await peer.receive() == StopWorker()
        assert rig.note_pids() == pids


async def test_who_does_not_say_hello_is_cut_off() -> None:
    """Another message than Hello, or garbage, closes a connection that nobody knows."""
    async with PoolRig() as rig:
        await rig.pool.start()
        pids = await rig.ready()
        for first in (CallRefused("CA1", "x"), b"", b"\xc1"):
            with Peer(rig.socket_path) as peer:
                peer.send(first)
                assert await peer.receive() is None
        assert rig.note_pids() == pids
        assert len(rig.owner.heard) == 2
