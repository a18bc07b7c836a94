"""One of the N places for a worker, and the processes that sit there.

A slot has a CPU and a slice of the RTP ports. It has two seats, so that a worker can be replaced
by another one that is ready before the old one goes; the heartbeats of both are in shared memory.
"""

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import Process
from enum import StrEnum
from typing import Final

import structlog

from shim.control import LATENESS_BOUNDS_MS, ToWorker, WorkerStats, WorkerTotals
from supervisor.workers.admission import LATE_LIMIT
from supervisor.workers.control_server import WorkerChannel
from supervisor.workers.health import Deaths

log = structlog.get_logger()

LATE_BUCKET: Final = LATENESS_BOUNDS_MS.index(10) + 1
"""The first bucket of the lateness histogram that counts as late: more than 10 ms."""
LATE_SECONDS: Final = 3
"""So many seconds in a row make a worker overloaded; a single hiccup doesn't."""


class SlotState(StrEnum):
    """What a slot is up to, in words for people."""

    STARTING = "starting"
    READY = "ready"
    PARKED = "parked"
    CANNOT_START = "cannot start"


class Seat:
    """A worker process, from its start (or its Hello) to its death.

    `process` is None for a worker that an earlier supervisor has started. `gone` is set when its
    control connection is at its end, or the process has exited before it had one.
    """

    def __init__(self, number: int, process: Process | None, pid: int) -> None:
        self.number = number
        self.process = process
        self.pid = pid
        self.channel: WorkerChannel | None = None
        self.stats: WorkerStats | None = None
        self._before: WorkerTotals | None = None if process is None else WorkerTotals()
        self.calls_to_come = 0  # calls of an earlier supervisor that it has announced
        self.started_at = time.monotonic()
        self.ready = asyncio.Event()
        self.gone = asyncio.Event()

    def note(self, stats: WorkerStats) -> None:
        """Take in what the worker tells of itself.

        What it counted for an earlier supervisor is not ours: our counters begin at 0, as those of
        any program that starts.
        """
        if self._before is None:
            self._before = stats.totals
        self.stats = stats

    @property
    def totals(self) -> WorkerTotals:
        """What it has counted since we have it."""
        if self.stats is None or self._before is None:
            return WorkerTotals()
        return self.stats.totals.plus(self._before, times=-1)

    def send(self, message: ToWorker) -> None:
        """Send a message; nothing happens when the worker is gone."""
        if self.channel is not None:
            self.channel.send(message)

    def kill(self) -> None:
        """Kill the process; its end is noticed as any other's."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return  # it is dead already, which is what was wanted

    def pin(self, cpu: int) -> None:
        """Let the process, all of its threads, run on this CPU only."""
        try:
            for thread in os.listdir(f"/proc/{self.pid}/task"):
                os.sched_setaffinity(int(thread), {cpu})
        except (FileNotFoundError, ProcessLookupError):
            return  # it is dead, and its successor will be pinned when it starts

    async def exited(self) -> int | None:
        """Wait until the worker is gone; returns the exit code of a child of ours.

        What it said last can still be unread when it has exited: its connection ends after that.
        """
        code = await self.process.wait() if self.process is not None else None
        if self.process is None or self.channel is not None:
            await self.gone.wait()
        self.gone.set()
        return code


class WorkerSlot:
    """A place for a worker: `current` serves it.

    While it is being replaced, `coming` is not ready yet, or else `leaving` still has calls.
    """

    def __init__(self, index: int, cpu: int) -> None:
        self.index = index
        self.cpu = cpu
        self.current: Seat | None = None
        self.coming: Seat | None = None
        self.leaving: Seat | None = None
        self.deaths = Deaths()
        self.late_share = 0.0
        self._seconds_late = 0
        self._lateness: list[int] = []
        self._past = WorkerTotals()
        self.starts = 0
        self.state = SlotState.STARTING

    @property
    def seats(self) -> list[Seat]:
        """The processes that sit here now."""
        return [seat for seat in (self.current, self.coming, self.leaving) if seat is not None]

    @property
    def pid(self) -> int:
        """The process that serves the slot, 0 if there is none."""
        return self.current.pid if self.current else 0

    @property
    def rss_bytes(self) -> int:
        """The memory of its processes, as they last told."""
        return sum(seat.stats.rss_bytes for seat in self.seats if seat.stats)

    @property
    def totals(self) -> WorkerTotals:
        """What all workers of this slot have counted; it only grows, whoever sits here."""
        totals = self._past
        for seat in self.seats:
            totals = totals.plus(seat.totals)
        return totals

    def retire(self, seat: Seat) -> None:
        """The worker is gone: what it has counted stays."""
        self._past = self._past.plus(seat.totals)
        seat.stats = None

    @property
    def takes_calls(self) -> bool:
        """Whether calls can be handed to it."""
        return self.current is not None and self.current.channel is not None

    @property
    def is_complete(self) -> bool:
        """Whether the worker has told of all the calls that it brought along."""
        return self.takes_calls and self.current is not None and self.current.calls_to_come <= 0

    @property
    def overloaded(self) -> bool:
        """Whether its pacer has been late for seconds: one more call would hurt the others."""
        return self._seconds_late >= LATE_SECONDS

    def note(self, seat: Seat, stats: WorkerStats) -> None:
        """Take in what a worker tells of itself each second."""
        seat.note(stats)
        if seat is not self.current:
            return
        lateness = stats.totals.lateness.counts
        before = self._lateness if len(self._lateness) == len(lateness) else lateness
        slots = [now - then for now, then in zip(lateness, before, strict=True)]
        self._lateness = lateness
        total = sum(slots)
        self.late_share = sum(slots[LATE_BUCKET:]) / total if total > 0 else 0.0
        self._seconds_late = self._seconds_late + 1 if self.late_share > LATE_LIMIT else 0

    def stay_on(self, usable: set[int]) -> None:
        """Move to another CPU when ours was taken from the set that this process may use."""
        if self.cpu in usable:
            return
        before, self.cpu = self.cpu, sorted(usable)[self.index % len(usable)]
        log.warning("worker_pinned_again", worker=self.index, cpu=self.cpu, before=before)
        for seat in self.seats:
            seat.pin(self.cpu)

    def free_seat(self) -> int:
        """The number of a seat that nobody has."""
        taken = {seat.number for seat in self.seats}
        return 1 if 0 in taken else 0


async def start_worker(slot: WorkerSlot, environment: dict[str, str]) -> Seat:
    """Start a process for a free seat of the slot; it will say Hello on the control socket."""
    number = slot.free_seat()
    slot.starts += 1
    arguments = f"-m shim --worker {slot.index} --seat {number} --cpu {slot.cpu}".split()
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, env=environment)
    return Seat(number, process, process.pid)
