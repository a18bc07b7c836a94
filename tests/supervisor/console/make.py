"""What the console's pure modules look at, made up: a call, a worker and a node that are fine."""

from typing import Any

from msgspec.structs import replace

from shim.control import CallFigures, CallQuality, CallStats
from supervisor.console.seen import CallSeen, NodeSeen, Seen, WorkerSeen

SID = "CA" + "0" * 32


def stats(**changes: Any) -> CallStats:
    """Counters of a call that has gone on for 20 s."""
    return replace(CallStats(frames_out=1000, frames_in=1000), **changes)


def figures(**changes: Any) -> CallFigures:
    """What a worker tells of a call that is fine."""
    quality = CallQuality(4.4, 1.0, 22, first_audio_ms=300)
    return replace(CallFigures(SID, stats(), quality, 40, True, 1.0), **changes)


def call(**changes: Any) -> CallSeen:
    """A call that is up, and fine."""
    fine = CallSeen(
        sid=SID,
        caller="+14155550123",
        called="+14155550100",
        direction="inbound",
        status="in-progress",
        phase="up",
        worker=0,
        age_s=20.0,
        phase_s=20.0,
        figures=figures(),
    )
    return replace(fine, **changes)


def worker(**changes: Any) -> WorkerSeen:
    """A worker that is fine."""
    fine = WorkerSeen(
        worker=0,
        cpu=0,
        pid=100,
        state="ready",
        up=True,
        replacing=False,
        calls=1,
        poor_calls=0,
        cpu_share=0.1,
        late_share=0.0,
        overloaded=False,
        rss_bytes=40_000_000,
        deaths=0,
        starts=1,
        heartbeat_s=0.05,
        died_s=None,
        first_port=20000,
        last_port=20999,
        ports={"free": 999, "leased": 1, "quarantined": 0},
        cells=[(1, 0), (0, 0)],
    )
    return replace(fine, **changes)


def node(**changes: Any) -> NodeSeen:
    """A node that is fine."""
    fine = NodeSeen(
        version="0.1.0",
        status="ok",
        uptime_s=60.0,
        ari_connected=True,
        ari_reason="connected",
        draining=False,
        stopping=False,
        limits={"asterisk_ports": 100, "rtp_ports": 2000},
        refused={},
        failed={},
    )
    return replace(fine, **changes)


def seen(*calls: CallSeen, **changes: Any) -> Seen:
    """A moment with these calls, on a node and a worker that are fine."""
    return replace(Seen(1000.0, node(), [worker()], list(calls)), **changes)
