"""The worker processes: started, pinned, watched, replaced.

Workers are started with `python -m shim`, never forked: a copy of a running event loop would
share its epoll set. A worker lives as long as its control connection; it may have been started
by an earlier supervisor.
"""

import asyncio
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import msgspec
import structlog

from shim.control import SOCKET_NAME, FromWorker, HeldCall, Hello, StopWorker, ToWorker, WorkerStats
from shim.port_layout import SEATS, PortLayout
from supervisor.workers.control_server import ControlServer, WorkerChannel
from supervisor.workers.health import Backoff, is_stuck
from supervisor.workers.slot import Seat, SlotState, WorkerSlot, start_worker

log = structlog.get_logger()

EXIT_CONFIG: Final = 78
"""A worker exits with it when starting again won't help (EX_CONFIG of sysexits.h)."""
WATCH_S: Final = 0.2
ADOPTION_S: Final = 1.5
"""A new supervisor waits so long for the workers of an earlier one to say Hello."""
RELEASE_TIMEOUT_S: Final = 8.0
"""A worker that is replaced has so long to let go of its calls and to end their streams."""


class PoolListener(Protocol):
    """What the pool tells its owner."""

    def on_worker_ready(self, worker: int) -> None:
        """Calls can be handed to the worker."""

    def on_worker_lost(self, worker: int) -> None:
        """The worker is dead; its calls have nobody."""

    def on_worker_replaced(self, worker: int) -> None:
        """A new worker has the slot; the old one's calls are to be moved to it."""

    def on_worker_dismissed(self, worker: int) -> None:
        """The worker that was replaced is gone."""

    def on_worker_message(
        self, worker: int, message: FromWorker, passed: socket.socket | None
    ) -> None:
        """Anything but Hello and statistics."""


class PoolError(Exception):
    """What was asked of the pool can't be done now; the text says why."""


class PoolSettings(msgspec.Struct, frozen=True):
    """`cpus` has one entry per worker; `environment` is what workers are started with.

    A worker that hasn't said Hello after `hello_timeout_s` is killed, and so is one that hasn't
    ended `stop_timeout_s` after it was told to.
    """

    run_dir: Path
    cpus: tuple[int, ...]
    environment: dict[str, str]
    backoff: Backoff = Backoff()
    hello_timeout_s: float = 15.0
    stop_timeout_s: float = 3.5


class WorkerPool:
    """Keeps one worker per slot alive from `start` to `stop`."""

    def __init__(self, settings: PoolSettings, layout: PortLayout, owner: PoolListener) -> None:
        self._settings = settings
        self._layout = layout
        self._owner = owner
        self.slots = [WorkerSlot(index, cpu) for index, cpu in enumerate(settings.cpus)]
        self._by_channel: dict[WorkerChannel, tuple[WorkerSlot, Seat]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._heard = asyncio.Event()  # a worker has told something of itself
        self._server: ControlServer | None = None

    async def start(self) -> None:
        """Listen, wait for workers of an earlier supervisor if some are alive, start the others."""
        self._server = ControlServer(self._settings.run_dir / SOCKET_NAME, self)
        await self._wait_for_survivors()
        for work in [self._watch(), *(self._keep(slot) for slot in self.slots)]:
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._finished)

    async def stop(self) -> None:
        """Stop all workers; those that don't end in time are killed."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        seats = [seat for slot in self.slots for seat in slot.seats]
        for seat in seats:
            seat.send(StopWorker())
        exits = [asyncio.create_task(seat.exited()) for seat in seats]
        if exits:
            _, late = await asyncio.wait(exits, timeout=self._settings.stop_timeout_s)
            for seat in seats:
                if not seat.gone.is_set():
                    log.warning("worker_killed", pid=seat.pid)
                    seat.kill()
            if late:
                await asyncio.wait(late)
        self._close_server()

    def abandon(self) -> None:
        """Let go of the workers without stopping them; they look for another supervisor."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        self._close_server()

    def _close_server(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def renew_environment(self, environment: dict[str, str]) -> None:
        """Start workers with this environment from now on."""
        self._settings = msgspec.structs.replace(self._settings, environment=environment)

    def send(self, worker: int, message: ToWorker, passed: socket.socket | None = None) -> None:
        """Send to a worker; nothing happens when it is gone, as its loss is being dealt with."""
        seat = self.slots[worker].current
        if seat is not None and seat.channel is not None:
            seat.channel.send(message, passed)

    async def replace(self, worker: int) -> None:
        """Start a new worker in the slot, and when it is ready, let it take the old one's calls.

        Returns when the old one is gone. The owner hears `on_worker_replaced`, moves the calls,
        and says `dismiss` at the end.

        Raises:
            PoolError: there is no worker to replace, or the new one doesn't get ready.
        """
        if not 0 <= worker < len(self.slots):
            raise PoolError(f"there is no worker {worker}, only 0 to {len(self.slots) - 1}")
        slot = self.slots[worker]
        if not slot.takes_calls or slot.coming is not None or slot.leaving is not None:
            raise PoolError(f"worker {worker} is {slot.state} or being replaced already")
        slot.coming = await self._spawn(slot)
        coming = slot.coming
        ends = [asyncio.ensure_future(end) for end in (coming.ready.wait(), coming.exited())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        slot.coming = None
        if coming.gone.is_set() or not slot.takes_calls:
            coming.kill()
            raise PoolError(f"the new worker {worker} did not get ready")
        leaving, slot.leaving, slot.current = slot.current, slot.current, coming
        log.info("worker_replaced", worker=worker, pid=coming.pid)
        self._owner.on_worker_replaced(worker)
        assert leaving is not None  # it took calls when we looked, and nothing ran in between
        try:
            await asyncio.wait_for(leaving.exited(), RELEASE_TIMEOUT_S)
        except TimeoutError:
            log.error("worker_does_not_leave", worker=worker, pid=leaving.pid)
            leaving.kill()
            await leaving.exited()

    def send_to_leaving(self, worker: int, message: ToWorker) -> None:
        """Send to a worker that is being replaced."""
        leaving = self.slots[worker].leaving
        if leaving is not None:
            leaving.send(message)

    def dismiss(self, worker: int) -> None:
        """The worker that is being replaced has no calls any more: it may go."""
        self.send_to_leaving(worker, StopWorker())

    # What workers say

    def on_message(
        self, channel: WorkerChannel, message: FromWorker, passed: socket.socket | None
    ) -> None:
        """Called by the control server."""
        known = self._by_channel.get(channel)
        if isinstance(message, Hello):
            self._greet(channel, message)
        elif known is None:
            channel.close("no Hello came first")
        elif isinstance(message, WorkerStats):
            known[0].note(known[1], message)
        else:
            self._owner.on_worker_message(known[0].index, message, passed)
            if isinstance(message, HeldCall):
                known[1].calls_to_come -= 1
                self._heard.set()

    def on_closed(self, channel: WorkerChannel, reason: str) -> None:
        """Called by the control server."""
        known = self._by_channel.pop(channel, None)
        if known is None:
            return
        slot, seat = known
        slot.retire(seat)
        seat.channel = None
        seat.gone.set()
        if seat is slot.leaving:
            slot.leaving = None
            self._owner.on_worker_dismissed(slot.index)
        if self._stopping or seat is not slot.current:
            return
        slot.state = SlotState.STARTING
        log.error("worker_lost", worker=slot.index, pid=seat.pid, reason=reason)
        seat.kill()
        self._owner.on_worker_lost(slot.index)

    def _greet(self, channel: WorkerChannel, hello: Hello) -> None:
        seat = None if self._stopping else self._seat_for(hello)
        if seat is None:
            log.warning("worker_turned_away", worker=hello.worker, pid=hello.pid)
            channel.send(StopWorker())
            return
        slot = self.slots[hello.worker]
        seat.channel = channel
        seat.calls_to_come = hello.calls
        self._by_channel[channel] = (slot, seat)
        slot.state = SlotState.READY
        log.info("worker_ready", worker=slot.index, pid=hello.pid, cpus=hello.cpus)
        seat.ready.set()
        self._heard.set()
        if seat is slot.current:
            self._owner.on_worker_ready(slot.index)

    def _seat_for(self, hello: Hello) -> Seat | None:
        """The seat of a worker that says Hello; None if it has no business here."""
        placed = 0 <= hello.worker < len(self.slots) and 0 <= hello.seat < SEATS
        if hello.table_id != self._layout.table_id or not placed or hello.pid <= 0:
            return None
        slot = self.slots[hello.worker]
        for seat in slot.seats:
            if seat.pid == hello.pid and seat.channel is None:
                return seat
        if slot.current is None:
            slot.current = Seat(hello.seat, None, hello.pid)
            return slot.current
        return None

    # The life of a slot

    async def _keep(self, slot: WorkerSlot) -> None:
        """Have a worker in the slot, and a new one when it dies."""
        backoff = self._settings.backoff
        while True:
            seat = slot.current = slot.current or await self._spawn(slot)
            code = await seat.exited()
            if slot.current is not seat:
                continue  # another one has taken over before
            slot.current = None
            if code == EXIT_CONFIG:
                slot.state = SlotState.CANNOT_START
                log.error("worker_cannot_start", worker=slot.index, exit_code=code)
                return
            slot.deaths.note(time.monotonic() - seat.started_at, backoff)
            if slot.deaths.is_hopeless(backoff):
                slot.state = SlotState.PARKED
                log.error("worker_parked", worker=slot.index, deaths=slot.deaths.total)
                return
            await asyncio.sleep(slot.deaths.delay_s(backoff))

    async def _spawn(self, slot: WorkerSlot) -> Seat:
        self._layout.beat(slot.index, slot.free_seat(), time.monotonic_ns())
        seat = await start_worker(slot, self._settings.environment)
        asyncio.get_running_loop().call_later(
            self._settings.hello_timeout_s, self._expect_hello, slot, seat
        )
        return seat

    def _expect_hello(self, slot: WorkerSlot, seat: Seat) -> None:
        if not seat.ready.is_set() and not seat.gone.is_set():
            log.error("worker_silent", worker=slot.index, pid=seat.pid)
            seat.kill()

    async def _watch(self) -> None:
        """Kill workers whose heartbeat has stopped, and keep all on CPUs that may be used."""
        while True:
            await asyncio.sleep(WATCH_S)
            now_ns = time.monotonic_ns()
            usable = os.sched_getaffinity(0)
            for slot in self.slots:
                slot.stay_on(usable)
                for seat in slot.seats:
                    beat_ns = self._layout.heartbeat_ns(slot.index, seat.number)
                    if seat.channel is not None and is_stuck(beat_ns, now_ns):
                        log.error("worker_stuck", worker=slot.index, pid=seat.pid)
                        seat.kill()

    async def _wait_for_survivors(self) -> None:
        """Workers of an earlier supervisor look for a new one four times a second."""
        now_ns = time.monotonic_ns()
        alive = [
            slot
            for slot in self.slots
            for seat in range(SEATS)
            if not is_stuck(self._layout.heartbeat_ns(slot.index, seat), now_ns)
        ]
        with suppress(TimeoutError):
            async with asyncio.timeout(ADOPTION_S):
                while not all(slot.is_complete for slot in alive):
                    await self._heard.wait()
                    self._heard.clear()

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("worker_pool_task_failed", exc_info=error)
