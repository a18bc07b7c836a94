"""Looks at calls, workers and node where they are kept, and remembers what that takes.

Each look costs about 2 µs per call. What has to be compared with before (CPU time, packets of the
last seconds, deaths) is remembered here, bounded by the number of calls and workers.
"""

import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from shim.control import CallFigures
from shim.port_layout import PortLayout
from supervisor.api.audit_log import AuditLog
from supervisor.asterisk_watch import AsteriskWatch
from supervisor.calls.control import CallControl
from supervisor.calls.state import Call, Phase
from supervisor.calls.table import CallTable
from supervisor.console.history import FAULT_OUTCOMES, SETUP_OUTCOMES
from supervisor.console.seen import CallSeen, NodeSeen, Recent, Seen, WorkerSeen
from supervisor.metrics import version
from supervisor.phone.phone_calls import AllPhoneCalls
from supervisor.phone.phone_record import PhoneRecord
from supervisor.status import WorkerFigures, node_status
from supervisor.workers.port_table import PortTable
from supervisor.workers.slot import WorkerSlot
from supervisor.workers.stream_control import StreamControl

CPU_WINDOW_S: Final = 4.0
"""Workers tell of their CPU time once a second, at times of their own: a window evens that out."""
RECENT_S: Final = 5.0
MOST_CELLS: Final = 96
"""Pieces in which a worker's ports are shown."""


class Sources(Struct, frozen=True):
    """Where things are kept. `figures` are those of all workers, now."""

    table: CallTable
    control: CallControl
    streams: StreamControl
    phones: AllPhoneCalls
    watch: AsteriskWatch
    ports: PortTable
    layout: PortLayout
    figures: Callable[[], list[WorkerFigures]]
    audit: AuditLog | None


class Lookout:
    """Sees how things are; `stopping` says whether the supervisor is about to end."""

    def __init__(self, sources: Sources, stopping: Callable[[], bool]) -> None:
        self._sources = sources
        self._stopping = stopping
        self._version = version()
        self._began_s = time.monotonic()
        self._cpu: dict[int, deque[tuple[float, float]]] = {}
        self._deaths: dict[int, tuple[int, float | None]] = {}
        self._before: deque[tuple[float, dict[str, CallFigures]]] = deque(maxlen=3)

    def look(self) -> Seen:
        """Everything, as it is now."""
        sources, now_s = self._sources, time.monotonic()
        if not self._before or now_s - self._before[-1][0] >= RECENT_S:
            self._before.append((now_s, dict(sources.streams.figures)))
        figures = sources.figures()
        slots = sources.streams.pool.slots
        return Seen(
            unix_s=time.time(),
            node=self._node(figures, now_s),
            workers=[self._worker(*pair, now_s) for pair in zip(figures, slots, strict=True)],
            calls=self._calls(),
        )

    def _calls(self) -> list[CallSeen]:
        """Phone calls with their streams; and streams of which no phone call is known."""
        streams = dict(self._sources.table.calls)
        now_ns, unix_s = time.monotonic_ns(), time.time()
        seen = []
        for record in self._sources.phones.in_progress():
            stream = streams.pop(record.sid, None)
            age_s = unix_s - (record.call.answered_at or record.call.created_at)
            seen.append(self._call(stream, record, age_s, now_ns))
        for stream in streams.values():
            age_s = (now_ns - stream.started_ns) / 1e9
            seen.append(self._call(stream, None, age_s, now_ns))
        return seen

    def _call(
        self, stream: Call | None, record: PhoneRecord | None, age_s: float, now_ns: int
    ) -> CallSeen:
        call = record.call if record else None
        sid = call.sid if call else stream.call_sid if stream else ""
        figures = self._sources.streams.figures.get(sid)
        return CallSeen(
            sid=sid,
            caller=call.caller if call else stream.caller_number if stream else "",
            called=call.called if call else stream.called_number if stream else "",
            direction=call.direction if call else "inbound",
            status=call.status if call else "in-progress",
            phase=stream.phase if stream else "",
            worker=stream.worker if stream else -1,
            age_s=max(0.0, age_s),
            phase_s=_phase_s(stream, now_ns),
            figures=figures,
            recent=self._recent(figures) if figures else Recent(),
            held=record.held if record else False,
        )

    def _recent(self, figures: CallFigures) -> Recent:
        """Against what was told five to ten seconds ago; after a death some may be missing."""
        now = figures.stats
        before = self._before[max(0, len(self._before) - 2)][1].get(figures.call_sid)
        if before is None or before.stats.frames_in > now.frames_in:
            return Recent(now.frames_in, now.lost, now.late, now.audio_dropped, now.send_errors)
        then = before.stats
        return Recent(
            received=now.frames_in - then.frames_in,
            lost=now.lost - then.lost,
            late=now.late - then.late,
            dropped=now.audio_dropped - then.audio_dropped,
            send_errors=now.send_errors - then.send_errors,
        )

    def _worker(self, figures: WorkerFigures, slot: WorkerSlot, now_s: float) -> WorkerSeen:
        ports = self._sources.ports
        slice_ = ports.slice(figures.worker)
        return WorkerSeen(
            worker=figures.worker,
            cpu=figures.cpu,
            pid=figures.pid,
            state=figures.state,
            up=figures.up,
            replacing=slot.coming is not None or slot.leaving is not None,
            calls=figures.calls,
            poor_calls=figures.poor_calls,
            cpu_share=self._cpu_share(figures, now_s),
            late_share=figures.late_share,
            overloaded=slot.overloaded,
            rss_bytes=figures.rss_bytes,
            deaths=figures.deaths,
            starts=figures.starts,
            heartbeat_s=self._heartbeat_s(slot),
            died_s=self._died_s(figures, now_s),
            first_port=slice_[0],
            last_port=slice_[-1],
            ports=figures.ports,
            cells=ports.cells(figures.worker, MOST_CELLS),
        )

    def _heartbeat_s(self, slot: WorkerSlot) -> float | None:
        if slot.current is None:
            return None
        beat_ns = self._sources.layout.heartbeat_ns(slot.index, slot.current.number)
        return max(0.0, (time.monotonic_ns() - beat_ns) / 1e9)

    def _cpu_share(self, figures: WorkerFigures, now_s: float) -> float:
        """Of one CPU, since the first look within the window; 0 until there are two."""
        kept = self._cpu.setdefault(figures.worker, deque())
        kept.append((now_s, figures.totals.cpu_seconds))
        while len(kept) > 2 and kept[1][0] < now_s - CPU_WINDOW_S:
            kept.popleft()
        (then_s, then_cpu_s), (_, now_cpu_s) = kept[0], kept[-1]
        return max(0.0, (now_cpu_s - then_cpu_s) / (now_s - then_s)) if now_s > then_s else 0.0

    def _died_s(self, figures: WorkerFigures, now_s: float) -> float | None:
        deaths, died_at_s = self._deaths.get(figures.worker, (0, None))
        if figures.deaths > deaths:
            died_at_s = now_s
        self._deaths[figures.worker] = (figures.deaths, died_at_s)
        return None if died_at_s is None else now_s - died_at_s

    def _node(self, workers: list[WorkerFigures], now_s: float) -> NodeSeen:
        sources = self._sources
        streams, watch = sources.streams, sources.watch
        audit = sources.audit.health() if sources.audit else None
        ended: Counter[str] = Counter()
        for (_, outcome), count in sources.control.measures.ended.items():
            ended[outcome] += count
        return NodeSeen(
            version=self._version,
            status=node_status(workers, connected=watch.connected, draining=streams.draining),
            uptime_s=now_s - self._began_s,
            ari_connected=watch.connected,
            ari_reason=watch.why,
            draining=streams.draining,
            stopping=self._stopping(),
            limits=streams.limits(),
            refused=dict(streams.measures.refused),
            failed={name: ended[name] for name in (*SETUP_OUTCOMES, *FAULT_OUTCOMES)},
            audit_problem=audit.problem if audit else "",
            audit_lost=audit.lost if audit else 0,
            recording_lost_chunks=sum(each.totals.recording.lost_chunks for each in workers),
            recordings_refused=sum(each.totals.recording.refused for each in workers),
        )


def _phase_s(stream: Call | None, now_ns: int) -> float:
    """How long its phase has lasted; of an end the beginning is not known."""
    if stream is None or stream.phase is Phase.ENDING:
        return 0.0
    begun_ns = stream.up_ns if stream.phase is Phase.UP else stream.started_ns
    return max(0.0, (now_ns - begun_ns) / 1e9)
