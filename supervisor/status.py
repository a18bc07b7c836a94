"""How things stand, for `/health` and `/metrics`."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from shim.control import RecordingStats
from supervisor.call_state import Call, Phase, Presence
from supervisor.port_table import PortTable
from supervisor.worker_slot import WorkerSlot


class WorkerFigures(Struct, frozen=True):
    """What is known of one worker. `late_share`: of the pacer's slots in the last second."""

    worker: int
    cpu: int
    pid: int
    state: str
    up: bool
    calls: int
    ports: dict[str, int]
    deaths: int
    cpu_seconds: float
    rss_bytes: int
    late_share: float
    recording: RecordingStats


def worker_figures(
    slots: list[WorkerSlot], calls: Mapping[str, Call], ports: PortTable
) -> list[WorkerFigures]:
    """Gather the figures of all workers."""
    by_worker = Counter(call.worker for call in calls.values())
    return [
        WorkerFigures(
            worker=slot.index,
            cpu=slot.cpu,
            pid=slot.pid,
            state=slot.state,
            up=slot.takes_calls,
            calls=by_worker[slot.index],
            ports=ports.counts(slot.index),
            deaths=slot.deaths.total,
            cpu_seconds=slot.stats.cpu_seconds if slot.stats else 0.0,
            rss_bytes=slot.stats.rss_bytes if slot.stats else 0,
            late_share=slot.late_share,
            recording=slot.stats.recording if slot.stats else RecordingStats(),
        )
        for slot in slots
    ]


def worker_health(figures: WorkerFigures, ports: range) -> dict[str, Any]:
    """A worker in `/health`."""
    return {
        "worker": figures.worker,
        "pid": figures.pid,
        "cpu": figures.cpu,
        "state": figures.state,
        "calls": figures.calls,
        "ports": {"first": ports[0], "last": ports[-1], **figures.ports},
        "deaths": figures.deaths,
        "rss_bytes": figures.rss_bytes,
        "late_share": round(figures.late_share, 4),
    }


def call_health(calls: Mapping[str, Call]) -> dict[str, int]:
    """The calls in `/health`: sessions that are not ending, and their channels in Asterisk."""
    channels = [
        part is not Presence.ABSENT for call in calls.values() for part in (call.caller, call.media)
    ]
    return {
        "active_sessions": sum(call.phase is not Phase.ENDING for call in calls.values()),
        "active_channels": sum(channels),
    }
