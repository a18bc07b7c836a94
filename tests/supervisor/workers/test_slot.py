"""When a worker counts as overloaded, and where it sits: on literal statistics."""

import asyncio

from shim.control import LATENESS_BOUNDS_MS, CallStats, WorkerStats, WorkerTotals
from shim.histogram import Histogram
from supervisor.workers.slot import LATE_SECONDS, Seat, WorkerSlot

BUCKETS = len(LATENESS_BOUNDS_MS) + 1
IN_TIME, LATE = 0, BUCKETS - 1


def stats(in_time: int, late: int) -> WorkerStats:
    """Statistics with so many slots since the worker's start."""
    lateness = [0] * BUCKETS
    lateness[IN_TIME], lateness[LATE] = in_time, late
    totals = WorkerTotals(lateness=Histogram(LATENESS_BOUNDS_MS, lateness))
    return WorkerStats(1, 0, 0.0, totals)


def slot_with_worker() -> tuple[WorkerSlot, Seat]:
    """A slot and the worker in it."""
    slot = WorkerSlot(0, cpu=0)
    slot.current = Seat(0, None, 1)
    return slot, slot.current


def test_late_for_seconds_is_overloaded() -> None:
    """A worker that is late in more than a fifth of its slots for 3 s takes no more calls."""
    slot, seat = slot_with_worker()
    in_time, late = 1000, 0
    slot.note(seat, stats(in_time, late))
    for _ in range(LATE_SECONDS):
        assert not slot.overloaded
        in_time, late = in_time + 700, late + 300
        slot.note(seat, stats(in_time, late))
        assert slot.late_share == 0.3
    assert slot.overloaded
    slot.note(seat, stats(in_time + 1000, late))
    assert (slot.overloaded, slot.late_share) == (False, 0.0)


def test_a_hiccup_is_forgiven() -> None:
    """A second with late slots between seconds without does not make it overloaded."""
    slot, seat = slot_with_worker()
    slot.note(seat, stats(0, 0))
    for second in range(1, 10):
        slot.note(seat, stats(500 * second, 500 * (second // 3)))
        assert not slot.overloaded


def test_no_calls_no_lateness() -> None:
    """Without calls there are no slots, so none is late."""
    slot, seat = slot_with_worker()
    for _ in range(5):
        slot.note(seat, stats(10, 10))
    assert (slot.overloaded, slot.late_share) == (False, 0.0)


def test_a_new_worker_is_not_judged_by_the_old_one() -> None:
    """Counts begin anew with a new process: that shows neither as lateness nor as an error."""
    slot, seat = slot_with_worker()
    slot.note(seat, stats(5000, 5000))
    slot.current = Seat(1, None, 2)
    slot.note(slot.current, stats(10, 0))
    assert slot.late_share == 0.0
    slot.note(seat, stats(5000, 9000))
    assert slot.late_share == 0.0


def test_seats() -> None:
    """The two seats are taken in turn."""
    slot, _ = slot_with_worker()
    assert slot.free_seat() == 1
    slot.coming = Seat(1, None, 2)
    assert [seat.pid for seat in slot.seats] == [1, 2]
    slot.leaving, slot.current, slot.coming = None, slot.coming, None
    assert slot.free_seat() == 0


def counted(frames: int) -> WorkerStats:
    """Statistics of a worker that has sent so many frames."""
    return WorkerStats(1, 10, 0.0, WorkerTotals(CallStats(frames_out=frames)))


def frames(slot: WorkerSlot) -> int:
    """What the slot's counter shows."""
    return slot.totals.stats.frames_out


def test_counters_of_an_adopted_worker_begin_at_0() -> None:
    """What it did for an earlier supervisor is not ours; a counter that falls would be a spike."""
    slot, seat = slot_with_worker()
    assert frames(slot) == 0
    slot.note(seat, counted(1000))
    assert frames(slot) == 0
    slot.note(seat, counted(1010))
    assert frames(slot) == 10


async def test_counters_only_grow() -> None:
    """While a worker is replaced, when it is gone, and when its successor has died."""
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    slot = WorkerSlot(0, cpu=0)
    old, new = Seat(0, process, 1), Seat(1, process, 2)
    slot.current = old
    slot.note(old, counted(100))
    slot.leaving, slot.current = old, new
    assert frames(slot) == 100
    slot.note(new, counted(5))
    slot.note(old, counted(120))
    assert (frames(slot), slot.rss_bytes) == (125, 20)
    slot.retire(old)
    slot.leaving = None
    assert (frames(slot), slot.rss_bytes) == (125, 10)
    slot.retire(new)
    slot.current = None
    assert frames(slot) == 125
    slot.retire(new)
    assert frames(slot) == 125
