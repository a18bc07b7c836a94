"""One clock for all calls of a worker: who sends a frame when.

Pure arithmetic on monotonic nanoseconds. Time is cut into slots of 5 ms; a call sends in every
4th slot, and calls are spread over the slots so that they don't all send at once. Slots are
counted from the clock's zero, so deadlines are absolute and never drift.

More and shorter slots would spread calls further, but each costs a wake-up of this process and
of those that it sends to: with 300 calls, 20 slots of 1 ms cost 10 % more CPU than 4 of 5 ms.
"""

from typing import Final, Protocol

from shim.control import LATENESS_BOUNDS_MS
from shim.pcmu import PTIME_NS

SLOTS: Final = 4
SLOT_NS: Final = PTIME_NS // SLOTS
CATCH_UP_FRAMES: Final = 3
"""After a stall, at most so many frames per call are sent at once; older ticks are skipped."""


class Paced(Protocol):
    """What a pacer drives: one call's outbound stream."""

    def send_frame(self) -> None:
        """Send the frame of this tick."""

    def skip_frames(self, count: int) -> None:
        """Let `count` ticks pass without a frame."""


class Pacer:
    """Calls each of its streams once per 20 ms.

    `lateness` counts slots by how late they ran, bucket by bucket of `LATENESS_BOUNDS_MS`;
    `lateness_ns` is their sum.
    """

    __slots__ = (
        "_done",
        "_slots",
        "lateness",
        "lateness_ns",
        "skipped_frames",
        "worst_lateness_ns",
    )

    def __init__(self, now_ns: int) -> None:
        self._slots: list[list[Paced]] = [[] for _ in range(SLOTS)]
        self._done = now_ns // SLOT_NS
        self.lateness = [0] * (len(LATENESS_BOUNDS_MS) + 1)
        self.lateness_ns = 0
        self.skipped_frames = 0
        self.worst_lateness_ns = 0

    def __len__(self) -> int:
        return sum(map(len, self._slots))

    def add(self, stream: Paced, slot: int | None = None) -> int:
        """Give the stream a place, in the slot with the fewest streams; returns the slot.

        A stream that another worker has begun keeps its `slot`, and so its cadence.
        """
        if slot is None:
            slot = min(range(SLOTS), key=lambda number: len(self._slots[number]))
        self._slots[slot].append(stream)
        return slot

    def due_ns(self, slot: int) -> int:
        """The time at which the slot's next frame is due.

        Ticks of a slot are whole multiples of 20 ms apart in every process of the machine, so a
        stream that moves to another one goes on with the very next tick.
        """
        first = self._done + 1
        return (first + (slot - first) % SLOTS) * SLOT_NS

    def remove(self, stream: Paced) -> None:
        """Take the stream out; one that is not there is no error."""
        for slot in self._slots:
            if stream in slot:
                slot.remove(stream)

    def rest(self, now_ns: int) -> None:
        """Forget the slots up to now: after a pause without streams nothing is overdue."""
        self._done = now_ns // SLOT_NS

    def run(self, now_ns: int) -> None:
        """Send what is due at `now_ns`."""
        now_slot = now_ns // SLOT_NS
        if now_slot - self._done > CATCH_UP_FRAMES * SLOTS:
            self._skip_to(now_slot)
        while self._done < now_slot:
            self._done += 1
            streams = self._slots[self._done % SLOTS]
            if streams:
                self._count_lateness(now_ns - self._done * SLOT_NS)
                for stream in tuple(streams):
                    stream.send_frame()

    def _skip_to(self, now_slot: int) -> None:
        """Leave out whole ticks, so that at most `CATCH_UP_FRAMES` per stream are overdue."""
        ticks = (now_slot - self._done - 1) // SLOTS + 1 - CATCH_UP_FRAMES
        self._done += ticks * SLOTS
        for slot in self._slots:
            for stream in slot:
                stream.skip_frames(ticks)
                self.skipped_frames += ticks

    def _count_lateness(self, late_ns: int) -> None:
        self.lateness_ns += late_ns
        if late_ns > self.worst_lateness_ns:
            self.worst_lateness_ns = late_ns
        for bucket, bound_ms in enumerate(LATENESS_BOUNDS_MS):
            if late_ns <= bound_ms * 1_000_000:
                self.lateness[bucket] += 1
                return
        self.lateness[-1] += 1
