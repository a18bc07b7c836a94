"""The supervisor as a whole: what it consists of, how it starts, and how it ends."""

import asyncio
import os
import secrets
import signal
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Final

import structlog
from msgspec import Struct

from shim import environment, port_memory
from shim.environment import ConfigError
from shim.histogram import LAG_BOUNDS_MS, Histogram
from shim.port_layout import Shape
from supervisor import systemd
from supervisor.api.audit_log import AuditLog
from supervisor.api.doorkeeper import Doorkeeper
from supervisor.api.server import Answers, HttpApi, server_tls
from supervisor.asterisk_watch import AsteriskWatch
from supervisor.calls.control import CallControl
from supervisor.calls.names import CallNames, new_sid
from supervisor.calls.state import Call
from supervisor.calls.table import CallTable
from supervisor.config import TOKEN_FILE, SupervisorConfig
from supervisor.console.feed import Feed
from supervisor.console.lookout import Lookout, Sources
from supervisor.console.routes import ConsoleRoutes
from supervisor.metrics import Figures, make_registry
from supervisor.part_settings import rules, stream_settings, worker_environment
from supervisor.phone.call_store import CallStore
from supervisor.phone.phone_call import CallRejected, Direction
from supervisor.phone.setup import phone_calls, phone_settings
from supervisor.status import (
    WorkerFigures,
    call_health,
    node_status,
    worker_figures,
    worker_health,
)
from supervisor.traces.setup_traces import Facts
from supervisor.traces.tracing import open_tracing
from supervisor.workers.media_ports import MediaPorts
from supervisor.workers.pool import PoolError, PoolSettings, WorkerPool
from supervisor.workers.port_table import PortTable
from supervisor.workers.slot import SlotState
from supervisor.workers.stream_control import StreamControl

log = structlog.get_logger()

TICK_S: Final = 0.1
WORKERS_READY_S: Final = 10.0
UNCLAIMED_S: Final = 5.0
"""After a restart workers have had so long to claim the ports of their calls."""
END_S: Final = 2.0
"""After the drain, calls that are being ended have so long to be gone from Asterisk."""


class Setup(Struct, frozen=True):
    """What a supervisor is made of: settings, a CPU per worker, the workers' environment."""

    config: SupervisorConfig
    cpus: tuple[int, ...]
    environment: Mapping[str, str]


class SupervisorFailed(Exception):
    """A task of the supervisor has failed in a way that nobody expected."""


class Supervisor:
    """Serves calls from `run`'s start until a signal.

    Args:
        setup: what to start with.
        read_setup: reads the settings anew, for SIGHUP; raises ConfigError.
    """

    def __init__(self, setup: Setup, read_setup: Callable[[], Setup]) -> None:
        config = setup.config
        self._config = config
        self._read_setup = read_setup
        self._stop = asyncio.Event()
        self._failed = False
        self._replaced = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop_lag = Histogram.of(LAG_BOUNDS_MS)
        self._run_dir = config.run_path()
        shape = Shape(config.rtp_port_start, config.rtp_port_end, len(setup.cpus))
        self._memory = port_memory.attach_or_create(self._run_dir / port_memory.FILE_NAME, shape)
        self._ports = MediaPorts(
            PortTable(self._memory.layout, time.monotonic_ns()),
            config.rtp_bind_host or config.external_media_host,
        )
        names = CallNames(config.ari_app)
        self._table = CallTable(rules(config), lambda: new_sid("CA"))
        self._watch = AsteriskWatch(config.ari_settings(), self._table, names, self._on_replaced)
        self._control = CallControl(self._table, self._watch.ari, names, config.external_media_host)
        self._watch.control = self._control
        self._tracing = self._control.tracing = open_tracing(setup.environment, self._facts)
        self._streams = StreamControl(
            stream_settings(config), self._table, self._ports, self._control.happen
        )
        self._control.streams = self._streams
        self._streams.traces = self._tracing.setups if self._tracing else None
        self._store = CallStore(config.state_path())
        self.phones = phone_calls(config, self._watch.ari, names, self._store, self._control)
        self._watch.phones = self.phones
        pool = PoolSettings(
            self._run_dir, setup.cpus, worker_environment(setup.config, setup.environment)
        )
        self._pool = WorkerPool(pool, self._memory.layout, self._streams)
        self._streams.pool = self._pool
        self._token = config.api_token or secrets.token_urlsafe(32)
        self._tls = server_tls(config.http_tls_cert, config.http_tls_key)
        audit = AuditLog(audit_path) if (audit_path := config.audit_path()) else None
        self._console = Feed(Lookout(self._sources(audit), self._stop.is_set).look)
        pages = ConsoleRoutes(self._console, show_numbers=config.console_show_numbers)
        answers = Answers(
            health=self._health,
            registry=make_registry(self._figures),
            restart_worker=self._pool.replace,
            drain=self._set_draining,
            calls=self.phones,
            console=pages if config.console == "on" else None,
        )
        door = Doorkeeper(config.door_settings(self._token))
        self._http = HttpApi(answers, door, audit, config.twilio_account_sid)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain and clean up.

        Raises:
            ConfigError: the HTTP port can't be had.
            SupervisorFailed: something of ours broke; the workers live on for a new supervisor.
        """
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._on_terminate)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._hold(self.renew()))
        try:
            self._write_token()
            await self._http.start(self._config.http_host, self._config.http_port, self._tls)
            await self._pool.start()
            self.phones.resumption.load(self._store.load())
            self._hold(self.phones.run())
            self._hold(self._tick())
            if self._config.console == "on":
                self._hold(self._console.run())
            self._hold(self._free_unclaimed())
            await self._wait_for_workers()
            self._hold(self._watch.run())
            systemd.notify("READY=1")
            await self._stop.wait()
            systemd.notify("STOPPING=1")
            if not self._failed:
                await self._drain()
        finally:
            await self._close()
        if self._failed:
            raise SupervisorFailed("see the log above")

    def _on_terminate(self) -> None:
        """The first signal asks for a drain; the second doesn't want to wait for it."""
        if self._stop.is_set():
            self._control.end_all("shutdown")
            self._hold(self.phones.end_all("shutdown"))
        self._stop.set()

    def _write_token(self) -> None:
        """For commands on this machine: who may read the file may change things."""
        path = self._run_dir / TOKEN_FILE
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(self._token)

    async def renew(self) -> None:
        """Read the settings again, and replace all workers, one after the other, with their calls.

        Settings that can't change while calls are up keep their values, and the log says so.
        """
        try:
            setup = await asyncio.to_thread(self._read_setup)  # it may ask AWS KMS for a key
        except ConfigError as error:
            log.error("settings_not_renewed", reason=str(error))
            return
        fixed = self._config.fixed_differences(setup.config)
        if fixed or len(setup.cpus) != len(self._pool.slots):
            log.warning("settings_need_a_restart", names=fixed or ["WORKERS"])
        self._table.rules = rules(setup.config)
        self._streams.settings = stream_settings(setup.config)
        self._http.renew(setup.config.door_settings(self._token).credentials)
        self.phones.renew(phone_settings(setup.config))
        self._pool.renew_environment(worker_environment(setup.config, setup.environment))
        for slot in self._pool.slots:
            await self._replace(slot.index)
        log.info("renewed", workers=len(self._pool.slots))

    async def _replace(self, worker: int) -> None:
        try:
            await self._pool.replace(worker)
        except PoolError as error:
            log.error("worker_not_replaced", worker=worker, reason=str(error))

    def _on_replaced(self) -> None:
        """A newer supervisor has the app, and finds our callers there: it serves them anew."""
        self._replaced = True
        self._streams.draining = self.phones.draining = True
        self._watch.stop()
        self._hold(self.phones.abandon())
        self._control.abandon_all("another supervisor has taken over")

    def _set_draining(self, on: bool) -> None:
        """Take no new calls, or take them again; raises CallRejected when it isn't ours to say."""
        if self._stop.is_set() or self._replaced:
            what = "about to end" if self._stop.is_set() else "replaced by another"
            raise CallRejected(409, 409, f"the supervisor is {what}: it takes no calls any more")
        self._streams.draining = self.phones.draining = on
        log.info("draining" if on else "drain_ended", calls=len(self._table.calls))

    async def _wait_for_workers(self) -> None:
        """Callers come as soon as we listen to ARI: first have somebody to take them."""
        deadline = time.monotonic() + WORKERS_READY_S
        while time.monotonic() < deadline and not self._stop.is_set():
            if all(slot.state is not SlotState.STARTING for slot in self._pool.slots):
                return
            await asyncio.sleep(TICK_S)

    async def _drain(self) -> None:
        """Take no new calls, let those that are up end, and end them when the time is over."""
        self._streams.draining = self.phones.draining = True
        log.info("draining", calls=len(self._table.calls), seconds=self._config.drain_seconds)
        deadline = time.monotonic() + self._config.drain_seconds
        await self._control.wait_idle(self._config.drain_seconds)
        await self.phones.wait_idle(max(0.0, deadline - time.monotonic()))
        await self.phones.end_all("shutdown")
        self._control.end_all("shutdown")
        if not await self._control.wait_idle(END_S):
            log.error("calls_left_in_asterisk", calls=len(self._table.calls))

    async def _close(self) -> None:
        """Let go of everything; after a failure of ours, leave the calls to the next supervisor."""
        self._watch.stop()
        for task in self._tasks:
            task.cancel()
        if self._failed:
            self._pool.abandon()
        else:
            await self._pool.stop()
        await self.phones.close()
        await self._watch.ari.close()
        if self._tracing is not None:
            await self._tracing.close()
        await self._http.close()
        if not self._failed:
            if not self._config.state_dir:
                self._store.remove()
            self._ports.close()
            self._memory.path.unlink(missing_ok=True)
            (self._run_dir / TOKEN_FILE).unlink(missing_ok=True)
            self._memory.close()
            with suppress(OSError):  # something of somebody else is in it
                self._run_dir.rmdir()
        log.info("supervisor_stopped")

    async def _free_unclaimed(self) -> None:
        """Ports of calls that have ended while there was no supervisor."""
        await asyncio.sleep(UNCLAIMED_S)
        for port in self._ports.table.unclaimed():
            self._ports.table.release(port, time.monotonic_ns())

    async def _tick(self) -> None:
        """What is due by time; and how late this loop is, which is how late all its events are."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(TICK_S)
            self._loop_lag.add(max(0.0, time.monotonic() - before - TICK_S) * 1000)
            self._control.expire()
            self.phones.expire()
            systemd.notify("WATCHDOG=1")

    def _health(self) -> dict[str, Any]:
        workers = self._worker_figures()
        connected, draining = self._watch.connected, self._streams.draining
        status = node_status(workers, connected=connected, draining=draining)
        table = self._ports.table
        return {
            "status": status,
            "supervisor_task_status": "stopping" if self._stop.is_set() else "running",
            "running": not self._stop.is_set(),
            **call_health(self._table.calls),
            "ari": {"connected": connected, "reason": self._watch.why},
            "workers": [worker_health(each, table.slice(each.worker)) for each in workers],
            "config": environment.redacted(self._config),
        }

    def _worker_figures(self) -> list[WorkerFigures]:
        calls, table = self._table.calls, self._ports.table
        return worker_figures(self._pool.slots, calls, table, self._streams.figures)

    def _facts(self, call: Call) -> Facts:
        phone_call = self.phones.fetch(call.call_sid)
        direction = phone_call.direction if phone_call else Direction.INBOUND
        cpu = self._pool.slots[call.worker].cpu if call.worker >= 0 else None
        url = call.target.url if call.target else self._config.ecs_media_wss_url
        return Facts(direction.value, cpu, url)

    def _sources(self, audit: AuditLog | None) -> Sources:
        return Sources(
            table=self._table,
            control=self._control,
            streams=self._streams,
            phones=self.phones,
            watch=self._watch,
            ports=self._ports.table,
            layout=self._memory.layout,
            figures=self._worker_figures,
            audit=audit,
        )

    def _figures(self) -> Figures:
        return Figures(
            workers=self._worker_figures(),
            calls=self._control.measures,
            streams=self._streams.measures,
            ari=self._watch.ari.counters,
            ari_up=self._watch.connected,
            limits=self._streams.limits(),
            draining=self._streams.draining,
            loop_lag=self._loop_lag,
        )

    def _hold(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("supervisor_task_failed", exc_info=error)
            self._failed = True
            self._stop.set()
