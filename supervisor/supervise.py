"""The supervisor as a whole: what it consists of, how it starts, and how it ends."""

import asyncio
import os
import signal
import time
from collections import Counter
from contextlib import suppress
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry

from shim import environment, port_memory
from shim.port_layout import Shape
from supervisor.ari_events import REPLACED, AriError, AriEvent
from supervisor.ari_link import AriLink, AriSettings
from supervisor.ari_meaning import interpret, reconcile
from supervisor.call_control import CallControl
from supervisor.call_names import CallNames, new_sid
from supervisor.call_state import OnEnd, Phase, Presence
from supervisor.call_table import CallTable, Rules
from supervisor.config import SupervisorConfig
from supervisor.http_api import HttpApi
from supervisor.media_ports import MediaPorts
from supervisor.metrics import Figures, FiguresCollector, WorkerFigures
from supervisor.port_table import PortTable
from supervisor.stream_control import StreamControl, StreamSettings
from supervisor.worker_pool import PoolSettings, WorkerPool
from supervisor.worker_slot import SlotState

log = structlog.get_logger()

TICK_S: Final = 0.1
WORKERS_READY_S: Final = 10.0
RECONCILE_AGAIN_S: Final = 2.0
"""Events can fall between the connection's loss and the list: look once more shortly after."""
UNCLAIMED_S: Final = 5.0
"""After a restart workers have had so long to claim the ports of their calls."""
END_S: Final = 2.0
"""After the drain, calls that are being ended have so long to be gone from Asterisk."""


class Supervisor:
    """Serves calls from `run`'s start until a signal."""

    def __init__(self, config: SupervisorConfig, cpus: tuple[int, ...]) -> None:
        self._config = config
        self._stop = asyncio.Event()
        self._ari_state = (False, "not tried yet")
        self._tasks: set[asyncio.Task[None]] = set()
        self._run_dir = config.run_path()
        self._names = CallNames(config.ari_app)
        shape = Shape(config.rtp_port_start, config.rtp_port_end, len(cpus))
        self._memory = port_memory.attach_or_create(self._run_dir / port_memory.FILE_NAME, shape)
        self._ports = MediaPorts(
            PortTable(self._memory.layout, time.monotonic_ns()),
            config.rtp_bind_host or config.external_media_host,
        )
        rules = Rules(OnEnd(config.on_stream_end), int(config.setup_timeout * 1e9))
        self._table = CallTable(rules, lambda: new_sid("CA"))
        self._ari = AriLink(
            AriSettings(config.ari_base, config.ari_user, config.ari_pass, config.ari_app),
            self._on_ari_event,
            self._on_ari_state,
        )
        self._control = CallControl(self._table, self._ari, self._names, config.external_media_host)
        self._streams = StreamControl(
            _stream_settings(config), self._table, self._ports, self._control.happen
        )
        self._control.streams = self._streams
        environment_of_workers = {**os.environ, "RUN_DIR": str(self._run_dir)}
        self._pool = WorkerPool(
            PoolSettings(self._run_dir, cpus, environment_of_workers),
            self._memory.layout,
            self._streams,
        )
        self._streams.pool = self._pool
        registry = CollectorRegistry()
        registry.register(FiguresCollector(self._figures))
        self._http = HttpApi(self._health, registry)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain and clean up.

        Raises:
            ConfigError: the HTTP port can't be had.
        """
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stop.set)
        try:
            await self._http.start(self._config.http_host, self._config.http_port)
            await self._pool.start()
            self._hold(self._tick())
            self._hold(self._free_unclaimed())
            await self._wait_for_workers()
            listening = self._hold(self._ari.run())
            await self._stop.wait()
            await self._drain()
            self._ari.stand_down()
            await asyncio.wait([listening], timeout=END_S)
        finally:
            await self._close()

    async def _wait_for_workers(self) -> None:
        """Callers come as soon as we listen to ARI: first have somebody to take them."""
        deadline = time.monotonic() + WORKERS_READY_S
        while time.monotonic() < deadline and not self._stop.is_set():
            if all(slot.state is not SlotState.STARTING for slot in self._pool.slots):
                return
            await asyncio.sleep(TICK_S)

    async def _drain(self) -> None:
        """Take no new calls, let those that are up end, and end them when the time is over."""
        self._streams.draining = True
        log.info("draining", calls=len(self._table.calls), seconds=self._config.drain_seconds)
        await self._control.wait_idle(self._config.drain_seconds)
        self._control.end_all("shutdown")
        if not await self._control.wait_idle(END_S):
            log.error("calls_left_in_asterisk", calls=len(self._table.calls))

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self._pool.stop()
        await self._ari.close()
        await self._http.close()
        self._ports.close()
        self._memory.close()
        self._memory.path.unlink(missing_ok=True)
        with suppress(OSError):  # something of somebody else is in it
            self._run_dir.rmdir()
        log.info("supervisor_stopped")

    async def _free_unclaimed(self) -> None:
        """Ports of calls that have ended while there was no supervisor."""
        await asyncio.sleep(UNCLAIMED_S)
        for port in self._ports.table.unclaimed():
            self._ports.table.release(port, time.monotonic_ns())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._control.expire()

    # What Asterisk says

    def _on_ari_event(self, event: AriEvent) -> None:
        if event.type == REPLACED:
            log.error("replaced_by_another_supervisor", app=self._config.ari_app)
            self._streams.draining = True
            self._ari.stand_down()
            return
        happened = interpret(event, self._names)
        if happened is not None:
            self._control.happen(happened)

    def _on_ari_state(self, connected: bool, why: str) -> None:
        self._ari_state = (connected, why)
        if connected:
            self._hold(self._catch_up())

    async def _catch_up(self) -> None:
        """Make up for what happened while nobody listened, and once more shortly after."""
        await self._reconcile()
        await asyncio.sleep(RECONCILE_AGAIN_S)
        await self._reconcile()

    async def _reconcile(self) -> None:
        asked_ns = time.monotonic_ns()
        try:
            channels = await self._ari.list_channels()
            bridges = await self._ari.list_bridges()
            found = reconcile(self._table.calls, channels, bridges, self._names, asked_ns)
            for event in found.events:
                log.info("event_made_up_for", kind=type(event).__name__)
                self._control.happen(event)
            for channel_id in found.orphan_channels:
                log.warning("orphan_removed", channel=channel_id)
                await self._ari.delete_channel(channel_id)
            for bridge_id in found.orphan_bridges:
                log.warning("orphan_removed", bridge=bridge_id)
                await self._ari.delete_bridge(bridge_id)
        except AriError as error:
            # Without an answer the connection will break too, and the next one starts anew.
            log.warning("not_reconciled", reason=str(error))

    # What others want to know

    def _health(self) -> dict[str, Any]:
        calls = self._table.calls.values()
        connected, why = self._ari_state
        ready = [slot for slot in self._pool.slots if slot.takes_calls]
        if self._streams.draining:
            status = "draining"
        else:
            status = "ok" if connected and len(ready) == len(self._pool.slots) else "degraded"
        channels = [
            part is not Presence.ABSENT for call in calls for part in (call.caller, call.media)
        ]
        return {
            "status": status,
            "supervisor_task_status": "stopping" if self._stop.is_set() else "running",
            "running": not self._stop.is_set(),
            "active_sessions": sum(call.phase is not Phase.ENDING for call in calls),
            "active_channels": sum(channels),
            "ari": {"connected": connected, "reason": why},
            "workers": [self._worker_health(figures) for figures in self._figures().workers],
            "config": environment.redacted(self._config),
        }

    def _worker_health(self, figures: WorkerFigures) -> dict[str, Any]:
        slot = self._pool.slots[figures.worker]
        ports = self._ports.table.slice(figures.worker)
        return {
            "worker": figures.worker,
            "pid": slot.pid,
            "cpu": figures.cpu,
            "state": slot.state,
            "calls": figures.calls,
            "ports": {"first": ports[0], "last": ports[-1], **figures.ports},
            "deaths": slot.deaths.total,
            "rss_bytes": figures.rss_bytes,
        }

    def _figures(self) -> Figures:
        calls = Counter(call.worker for call in self._table.calls.values())
        return Figures(
            workers=[
                WorkerFigures(
                    worker=slot.index,
                    cpu=slot.cpu,
                    up=slot.takes_calls,
                    calls=calls[slot.index],
                    ports=self._ports.table.counts(slot.index),
                    cpu_seconds=slot.stats.cpu_seconds if slot.stats else 0.0,
                    rss_bytes=slot.stats.rss_bytes if slot.stats else 0,
                )
                for slot in self._pool.slots
            ],
            outcomes=self._control.outcomes,
            ari_up=self._ari_state[0],
        )

    def _hold(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("supervisor_task_failed", exc_info=error)
            self._stop.set()


def _stream_settings(config: SupervisorConfig) -> StreamSettings:
    return StreamSettings(
        url=config.ecs_media_wss_url,
        account_sid=config.twilio_account_sid,
        custom_parameters=config.custom_parameters(),
        share_numbers=config.share_numbers,
        max_calls=config.max_calls,
    )
