"""Which calls, workers and what of the node suffers, and why, in words. Pure.

Each threshold says where it comes from. What is SEVERE is heard by a caller now; what is WORTH A
LOOK may become so.
"""

from enum import IntEnum
from typing import Final

from msgspec import Struct

from shim.control import CallFigures
from supervisor.calls.measures import can_be_judged, is_poor
from supervisor.calls.state import Phase
from supervisor.console.seen import CallSeen, NodeSeen, WorkerSeen
from supervisor.workers.admission import LATE_LIMIT

JITTER_MS: Final = (20.0, 30.0)
"""The time of one packet, and half as much again: `shim.call_quality` reckons with a listener's
buffer of twice that, and 60 ms are more than many phones begin with."""
LOSS_SHARE: Final = (0.01, 0.03)
"""By the model of `shim.call_quality` the rating R is 75 at 1 %, and 54, which is bad, at 3 %.
A packet that comes late is as good as lost."""
SILENT_MS: Final = (1000, 3000)
"""A phone sends each 20 ms; a key press holds it up for less than a second."""
STREAM_WAIT_S: Final = 2.0
"""A voice server answers the handshake within a fraction of a second."""
FIRST_AUDIO_MS: Final = 3000
"""Who hears nothing for so long says hello again, or hangs up."""
NOTHING_SAID_S: Final = 8.0
SETUP_S: Final = 3.0
LATE_SHARE: Final = (0.02, LATE_LIMIT)
"""At the upper one, admission takes the worker for full."""
HEARTBEAT_S: Final = 0.5
"""A worker beats ten times a second; after 1 s without, it is killed."""
DIED_S: Final = 60.0
"""So long a death is news."""
CPU_SHARE: Final = 0.85
FEW_LEFT_SHARE: Final = 0.1


class Level(IntEnum):
    """How bad."""

    FINE = 0
    WATCH = 1
    SEVERE = 2


class Finding(Struct, frozen=True):
    """One reason."""

    level: Level
    text: str


def worst(findings: list[Finding]) -> Level:
    """The worst of them."""
    return max((finding.level for finding in findings), default=Level.FINE)


def judge_call(call: CallSeen, worker: WorkerSeen | None) -> list[Finding]:
    """Why a call suffers, the worst first; nothing if it is fine."""
    found = [*_progress(call), *_of_worker(call, worker)]
    if call.figures is not None and call.phase == Phase.UP:
        found += [*_heard(call), *_voice_server(call)]
    return sorted(found, key=lambda finding: -finding.level)


def _progress(call: CallSeen) -> list[Finding]:
    if call.phase == Phase.SETTING_UP and call.phase_s >= SETUP_S:
        return [Finding(Level.SEVERE, f"set-up takes {call.phase_s:.0f} s")]
    return []


def _of_worker(call: CallSeen, worker: WorkerSeen | None) -> list[Finding]:
    """What the call's worker does to it."""
    if call.worker < 0 or call.phase != Phase.UP:
        return []
    if worker is None or not worker.up:
        return [Finding(Level.SEVERE, f"worker {call.worker} is down")]
    if worker.heartbeat_s is not None and worker.heartbeat_s >= HEARTBEAT_S:
        return [Finding(Level.SEVERE, f"worker {call.worker} does not answer")]
    if worker.overloaded:
        return [Finding(Level.SEVERE, f"worker {call.worker} is late")]
    return []


def _heard(call: CallSeen) -> list[Finding]:
    """How the caller's voice arrives, and whether ours gets away."""
    assert call.figures is not None
    figures, found = call.figures, []
    if level := _level(figures.silent_ms, SILENT_MS):
        found.append(Finding(level, f"caller not heard for {figures.silent_ms / 1000:.0f} s"))
    if (level := _level(call.recent.loss_share, LOSS_SHARE)) and call.recent.lost > 1:
        found.append(Finding(level, f"loss {100 * call.recent.loss_share:.1f} %"))
    if (level := _level(call.recent.late_share, LOSS_SHARE)) and call.recent.late > 1:
        found.append(Finding(level, f"packets late {100 * call.recent.late_share:.0f} %"))
    if can_be_judged(figures) and (level := _level(figures.jitter_now_ms, JITTER_MS)):
        found.append(Finding(level, f"jitter {figures.jitter_now_ms:.0f} ms"))
    if is_poor(figures):
        found.append(Finding(Level.SEVERE, f"MOS {figures.quality.mos:.1f}"))
    if call.recent.send_errors > 0:
        text = f"{call.recent.send_errors} packets could not be sent"
        found.append(Finding(Level.SEVERE, text))
    return found


def _voice_server(call: CallSeen) -> list[Finding]:
    assert call.figures is not None
    figures = call.figures
    if not figures.stream_open:
        if was_open(figures):
            return [Finding(Level.SEVERE, "voice server lost, reconnecting")]
        if call.phase_s >= STREAM_WAIT_S:
            return [Finding(Level.SEVERE, f"voice server not reached for {call.phase_s:.0f} s")]
        return []
    found, first_ms = [], figures.quality.first_audio_ms
    if call.recent.dropped > 0:
        text = f"voice server too slow, {call.recent.dropped} packets dropped"
        found.append(Finding(Level.SEVERE, text))
    if first_ms is None and call.phase_s >= NOTHING_SAID_S:
        found.append(Finding(Level.WATCH, "voice server has said nothing yet"))
    elif first_ms is not None and first_ms >= FIRST_AUDIO_MS and call.age_s < DIED_S:
        found.append(Finding(Level.WATCH, f"first audio after {first_ms / 1000:.1f} s"))
    return found


def was_open(figures: CallFigures) -> bool:
    """Whether the voice server was there before; also when another worker had the call."""
    return figures.stats.reconnects > 0 or figures.stats.played_ms > 0


def judge_worker(worker: WorkerSeen) -> list[Finding]:
    """What is wrong with a worker, the worst first."""
    found = []
    if not worker.up:
        found.append(Finding(Level.SEVERE, worker.state))
    elif worker.heartbeat_s is not None and worker.heartbeat_s >= HEARTBEAT_S:
        text = f"does not answer for {worker.heartbeat_s:.1f} s"
        found.append(Finding(Level.SEVERE, text))
    if worker.died_s is not None and worker.died_s <= DIED_S:
        found.append(Finding(Level.WATCH, f"died {worker.died_s:.0f} s ago"))
    if level := _level(worker.late_share, LATE_SHARE):
        found.append(Finding(level, f"late in {100 * worker.late_share:.0f} % of slots"))
    if worker.cpu_share >= CPU_SHARE:
        found.append(Finding(Level.WATCH, f"CPU at {100 * worker.cpu_share:.0f} %"))
    return sorted(found, key=lambda finding: -finding.level)


def judge_node(node: NodeSeen, calls: int) -> list[Finding]:
    """What is wrong with the node as a whole, the worst first."""
    found = []
    if not node.ari_connected:
        found.append(Finding(Level.SEVERE, f"Asterisk is not connected: {node.ari_reason}"))
    if node.audit_problem:
        text = f"the audit log can't be written: {node.audit_problem}"
        found.append(Finding(Level.SEVERE, text))
    if node.recording_lost_chunks or node.recordings_refused:
        lost = f"{node.recording_lost_chunks} pieces lost, {node.recordings_refused} refused"
        found.append(Finding(Level.WATCH, f"recording: {lost}"))
    limit, left = capacity(node, calls)
    if limit and left <= FEW_LEFT_SHARE * node.limits[limit]:
        found.append(Finding(Level.WATCH, f"room for {left} more calls ({words(limit)})"))
    if node.draining:
        found.append(Finding(Level.WATCH, "draining: no new calls are taken"))
    return sorted(found, key=lambda finding: -finding.level)


def capacity(node: NodeSeen, calls: int) -> tuple[str, int]:
    """The limit that is reached first, and how many calls it leaves room for."""
    if not node.limits:
        return "", 0
    name = min(node.limits, key=lambda limit: node.limits[limit])
    return name, max(0, node.limits[name] - calls)


def words(limit: str) -> str:
    """A limit's name as people say it."""
    return "MAX_CALLS" if limit == "max_calls" else limit.replace("_", " ")


def _level(value: float, bounds: tuple[float, float]) -> Level:
    if value >= bounds[1]:
        return Level.SEVERE
    return Level.WATCH if value >= bounds[0] else Level.FINE
