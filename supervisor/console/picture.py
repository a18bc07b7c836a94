"""What is sent to the page once a second: a whole picture, calls that suffer first. Pure."""

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import asdict

from supervisor.console import judge, masking
from supervisor.console.history import Sample
from supervisor.console.judge import Finding, Level
from supervisor.console.seen import CallSeen, Seen, WorkerSeen

DIRECTIONS: Final = {"inbound": "in"}
"""All other directions are out."""


class CallRow(Struct, frozen=True, array_like=True):
    """A call in the picture; as an array, as there may be a thousand of them.

    `loss` is the share of the last seconds, 0 to 1. `stream`: "up", "reconnecting", "opening", or
    "" for none. Null: not known.
    """

    sid: str
    caller: str
    called: str
    direction: str
    state: str
    worker: int
    seconds: int
    packets_in: int | None
    packets_out: int | None
    loss: float | None
    jitter_ms: float | None
    late: int | None
    playout_ms: int | None
    first_audio_ms: int | None
    mos: float | None
    stream: str
    reconnects: int
    level: int
    reasons: list[str]


class Picture(Struct, frozen=True):
    """All of it. `status` is that of /health."""

    unix_s: float
    status: str
    node: dict[str, Any]
    workers: list[dict[str, Any]]
    calls: list[CallRow]
    sample: Sample | None


def picture(seen: Seen, sample: Sample | None, *, numbers: bool) -> Picture:
    """The picture of a moment; `numbers`: callers' numbers and names as they are."""
    name: Callable[[str], str] = masking.shown if numbers else masking.masked
    workers = {worker.worker: worker for worker in seen.workers}
    judged = [(judge.judge_call(call, workers.get(call.worker)), call) for call in seen.calls]
    judged.sort(key=lambda pair: (-judge.worst(pair[0]), -pair[1].age_s, pair[1].sid))
    suffering = [call for findings, call in judged if judge.worst(findings) is Level.SEVERE]
    return Picture(
        unix_s=round(seen.unix_s, 3),
        status=seen.node.status,
        node=_node(seen, len(suffering)),
        workers=[_worker(worker) for worker in seen.workers],
        calls=[_row(call, findings, name) for findings, call in judged],
        sample=sample,
    )


def _node(seen: Seen, suffering: int) -> dict[str, Any]:
    node, calls = seen.node, len(seen.calls)
    limit, left = judge.capacity(node, calls)
    findings = judge.judge_node(node, calls)
    return {
        "version": node.version,
        "uptime_s": round(node.uptime_s),
        "ari": {"connected": node.ari_connected, "reason": node.ari_reason},
        "draining": node.draining,
        "stopping": node.stopping,
        "calls": calls,
        "suffering": suffering,
        "capacity": {"limit": judge.words(limit), "most": node.limits.get(limit, 0), "left": left},
        "refused": node.refused,
        "audit": {"problem": node.audit_problem, "lost": node.audit_lost},
        "level": judge.worst(findings),
        "reasons": [finding.text for finding in findings],
    }


def _worker(worker: WorkerSeen) -> dict[str, Any]:
    findings = judge.judge_worker(worker)
    return {
        **asdict(worker),
        "cpu_share": round(worker.cpu_share, 3),
        "late_share": round(worker.late_share, 4),
        "heartbeat_s": _rounded(worker.heartbeat_s),
        "died_s": _rounded(worker.died_s),
        "level": judge.worst(findings),
        "reasons": [finding.text for finding in findings],
    }


def _row(call: CallSeen, findings: list[Finding], name: Callable[[str], str]) -> CallRow:
    figures = call.figures
    heard = figures is not None and figures.stats.frames_in > 0
    return CallRow(
        sid=call.sid,
        caller=name(call.caller),
        called=name(call.called),
        direction=DIRECTIONS.get(call.direction, "out"),
        state=_state(call),
        worker=call.worker,
        seconds=int(call.age_s),
        packets_in=figures.stats.frames_in if figures else None,
        packets_out=figures.stats.frames_out if figures else None,
        loss=round(call.recent.loss_share, 4) if heard else None,
        jitter_ms=figures.jitter_now_ms if figures and heard else None,
        late=figures.stats.late if figures else None,
        playout_ms=figures.depth_ms if figures else None,
        first_audio_ms=figures.quality.first_audio_ms if figures else None,
        mos=figures.quality.mos if figures and heard else None,
        stream=_stream(call),
        reconnects=figures.stats.reconnects if figures else 0,
        level=judge.worst(findings),
        reasons=[finding.text for finding in findings],
    )


def _state(call: CallSeen) -> str:
    if call.held:
        return "on hold"
    return call.phase or call.status


def _stream(call: CallSeen) -> str:
    if call.figures is None:
        return ""
    if call.figures.stream_open:
        return "up"
    return "reconnecting" if judge.was_open(call.figures) else "opening"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
