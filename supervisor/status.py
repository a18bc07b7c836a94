"""How things stand, for `/health` and `/metrics`."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from shim.control import CallFigures, WorkerTotals
from supervisor.calls.measures import is_poor
from supervisor.calls.state import Call, Phase, Presence
from supervisor.workers.port_table import PortTable
from supervisor.workers.slot import WorkerSlot


class WorkerFigures(Struct, frozen=True):
    """What is known of one worker. `late_share`: of the pacer's slots in the last second.

    `poor_calls`: those that are hard to understand, by the estimate of `shim.call_quality`.
    """

    worker: int
    cpu: int
    pid: int
    state: str
    up: bool
    calls: int
    ports: dict[str, int]
    deaths: int
    starts: int
    rss_bytes: int
    late_share: float
    poor_calls: int
    totals: WorkerTotals


def worker_figures(
    slots: list[WorkerSlot],
    calls: Mapping[str, Call],
    ports: PortTable,
    now: Mapping[str, CallFigures],
) -> list[WorkerFigures]:
    """Gather the figures of all workers; `now` is what they last told of their calls."""
    by_worker = Counter(call.worker for call in calls.values())
    poor = Counter(calls[sid].worker for sid, call in now.items() if sid in calls and is_poor(call))
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
            starts=slot.starts,
            rss_bytes=slot.rss_bytes,
            late_share=slot.late_share,
            poor_calls=poor[slot.index],
            totals=slot.totals,
        )
        for slot in slots
    ]


def node_status(workers: list[WorkerFigures], *, connected: bool, draining: bool) -> str:
    """How the node is, in a word; `connected`: to Asterisk."""
    if draining:
        return "draining"
    return "ok" if connected and all(worker.up for worker in workers) else "degraded"


def worker_health(figures: WorkerFigures, ports: range) -> dict[str, Any]:
    """A worker in `/health`."""
    return {
        "worker": figures.worker,
        "pid": figures.pid,
        "cpu": figures.cpu,
        "state": figures.state,
        "calls": figures.calls,
        "poor_calls": figures.poor_calls,
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
