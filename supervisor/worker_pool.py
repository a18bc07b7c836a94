"""The worker processes: started, pinned, watched, replaced.

Workers are started with `python -m shim`, never forked: a copy of a running event loop would
share its epoll set. A worker lives as long as its control connection; it may have been started
by an earlier supervisor.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from pathlib import Path
from typing import Final, Protocol

import msgspec
import structlog

from shim.control import SOCKET_NAME, FromWorker, Hello, StopWorker, ToWorker, WorkerStats
from shim.port_layout import PortLayout
from supervisor.control_server import ControlServer, WorkerChannel
from supervisor.worker_health import Deaths, is_stuck

log = structlog.get_logger()

EXIT_CONFIG: Final = 78
"""A worker exits with it when starting again won't help (EX_CONFIG of sysexits.h)."""
WATCH_S: Final = 0.2
HELLO_TIMEOUT_S: Final = 15.0
ADOPTION_S: Final = 1.5
"""A new supervisor waits so long for the workers of an earlier one."""
STOP_TIMEOUT_S: Final = 3.5


class PoolListener(Protocol):
    """What the pool tells its owner."""

    def on_worker_ready(self, worker: int) -> None:
        """Calls can be handed to the worker."""

    def on_worker_lost(self, worker: int) -> None:
        """The worker is dead; its calls have nobody."""

    def on_worker_message(
        self, worker: int, message: FromWorker, passed: socket.socket | None
    ) -> None:
        """Anything but Hello and statistics."""


class PoolSettings(msgspec.Struct, frozen=True):
    """`cpus` has one entry per worker; `environment` is what workers are started with."""

    run_dir: Path
    cpus: tuple[int, ...]
    environment: dict[str, str]


class WorkerSlot:
    """A place for a worker, and what is known of the one that has it."""

    def __init__(self, index: int, cpu: int) -> None:
        self.index = index
        self.cpu = cpu
        self.pid = 0
        self.stats: WorkerStats | None = None
        self.deaths = Deaths()
        self.cannot_start = False
        self.channel: WorkerChannel | None = None
        self.gone = asyncio.Event()

    @property
    def state(self) -> str:
        """In a word, for people."""
        if self.channel is not None:
            return "ready"
        if self.cannot_start:
            return "cannot start"
        return "parked" if self.deaths.parked else "starting"


class WorkerPool:
    """Keeps one worker per slot alive from `start` to `stop`."""

    def __init__(self, settings: PoolSettings, layout: PortLayout, owner: PoolListener) -> None:
        self._settings = settings
        self._layout = layout
        self._owner = owner
        self.slots = [WorkerSlot(index, cpu) for index, cpu in enumerate(settings.cpus)]
        self._by_channel: dict[WorkerChannel, WorkerSlot] = {}
        self._processes: dict[int, Process] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._server: ControlServer | None = None

    async def start(self, *, adopt: bool) -> None:
        """Listen, and start workers; with `adopt`, first wait for those that are alive."""
        self._server = ControlServer(self._settings.run_dir / SOCKET_NAME, self)
        if adopt:
            await asyncio.sleep(ADOPTION_S)
        for work in [self._watch(), *(self._keep(slot) for slot in self.slots)]:
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._finished)

    async def stop(self) -> None:
        """Stop all workers; those that don't end in time are killed."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        for slot in self.slots:
            self.send(slot.index, StopWorker())
        waiting = [asyncio.create_task(process.wait()) for process in self._processes.values()]
        if waiting:
            await asyncio.wait(waiting, timeout=STOP_TIMEOUT_S)
        for process in self._processes.values():
            if process.returncode is None:
                log.warning("worker_killed", pid=process.pid)
                process.kill()
                await process.wait()
        if self._server is not None:
            self._server.close()

    def send(self, worker: int, message: ToWorker, passed: socket.socket | None = None) -> None:
        """Send to a worker; nothing happens when it is gone, as its loss is being dealt with."""
        channel = self.slots[worker].channel
        if channel is not None:
            channel.send(message, passed)

    def on_message(
        self, channel: WorkerChannel, message: FromWorker, passed: socket.socket | None
    ) -> None:
        """Called by the control server."""
        slot = self._by_channel.get(channel)
        if isinstance(message, Hello):
            self._greet(channel, message)
        elif slot is None:
            channel.close("no Hello came first")
        elif isinstance(message, WorkerStats):
            slot.stats = message
        else:
            self._owner.on_worker_message(slot.index, message, passed)

    def on_closed(self, channel: WorkerChannel, reason: str) -> None:
        """Called by the control server."""
        slot = self._by_channel.pop(channel, None)
        if slot is None:
            return
        slot.channel = None
        slot.stats = None
        slot.gone.set()
        if not self._stopping:
            log.error("worker_lost", worker=slot.index, pid=slot.pid, reason=reason)
            self._kill(slot)
            self._owner.on_worker_lost(slot.index)

    def _greet(self, channel: WorkerChannel, hello: Hello) -> None:
        slot = self.slots[hello.worker] if 0 <= hello.worker < len(self.slots) else None
        if slot is None or slot.channel is not None:
            log.warning("worker_turned_away", worker=hello.worker, pid=hello.pid)
            channel.send(StopWorker())
            return
        slot.channel = channel
        slot.pid = hello.pid
        slot.gone.clear()
        self._by_channel[channel] = slot
        log.info("worker_ready", worker=slot.index, pid=hello.pid, cpus=hello.cpus)
        self._owner.on_worker_ready(slot.index)

    async def _keep(self, slot: WorkerSlot) -> None:
        """Have a worker in the slot, and a new one when it dies."""
        while True:
            started_at = time.monotonic()
            process = None
            if slot.channel is None:
                slot.gone.clear()
                process = await self._spawn(slot)
            code = await self._wait_gone(slot, process)
            if code == EXIT_CONFIG:
                slot.cannot_start = True
                log.error("worker_cannot_start", worker=slot.index, exit_code=code)
                return
            slot.deaths.note(time.monotonic() - started_at)
            if slot.deaths.parked:
                log.error("worker_parked", worker=slot.index, deaths=slot.deaths.total)
                return
            await asyncio.sleep(slot.deaths.delay_s)

    async def _spawn(self, slot: WorkerSlot) -> Process:
        arguments = ("-m", "shim", "--worker", str(slot.index), "--cpu", str(slot.cpu))
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, env=self._settings.environment
        )
        self._processes[slot.index] = process
        slot.pid = process.pid
        return process

    async def _wait_gone(self, slot: WorkerSlot, process: Process | None) -> int | None:
        """Wait until the slot's worker is dead; returns the exit code of a child of ours."""
        if process is None:
            await slot.gone.wait()
            return None
        exited = asyncio.create_task(process.wait())
        hello = asyncio.get_running_loop().call_later(HELLO_TIMEOUT_S, self._expect_hello, slot)
        try:
            return await exited
        finally:
            hello.cancel()
            exited.cancel()

    def _expect_hello(self, slot: WorkerSlot) -> None:
        if slot.channel is None:
            log.error("worker_silent", worker=slot.index, pid=slot.pid)
            self._kill(slot)

    async def _watch(self) -> None:
        """Kill workers whose heartbeat has stopped; the rest follows from their death."""
        while True:
            await asyncio.sleep(WATCH_S)
            for slot in self.slots:
                beat_ns = self._layout.heartbeat_ns(slot.index)
                if slot.channel is not None and is_stuck(beat_ns, time.monotonic_ns()):
                    log.error("worker_stuck", worker=slot.index, pid=slot.pid)
                    self._kill(slot)

    def _kill(self, slot: WorkerSlot) -> None:
        try:
            os.kill(slot.pid, signal.SIGKILL)
        except ProcessLookupError:
            return  # it is dead already, which is what was wanted

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("worker_pool_task_failed", exc_info=error)
