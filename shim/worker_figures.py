"""What a worker counts and measures of itself and its calls, told once a second."""

import resource
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from shim.call_session import CallSession
from shim.control import (
    LATENESS_BOUNDS_MS,
    CallFigures,
    CallStats,
    RecordingStats,
    WorkerStats,
    WorkerTotals,
)
from shim.histogram import BARGE_IN_BOUNDS_MS, DEPTH_BOUNDS_MS, LAG_BOUNDS_MS, Histogram
from shim.pacer import Pacer


class WorkerFigures:
    """The figures of one worker process, from its start on."""

    def __init__(self) -> None:
        self._past = CallStats()
        self._lost = 0
        self._depth = Histogram.of(DEPTH_BOUNDS_MS)
        self._loop_lag = Histogram.of(LAG_BOUNDS_MS)
        self._barge_in = Histogram.of(BARGE_IN_BOUNDS_MS)

    def woke(self, due_ns: int) -> None:
        """The event loop came to what was due then."""
        self._loop_lag.add(max(0, time.monotonic_ns() - due_ns) / 1e6)

    def look_at(self, session: CallSession) -> CallFigures:
        """The call as it is now; do so once a second."""
        self._note_barge_ins(session)
        figures = session.figures()
        self._depth.add(figures.depth_ms)
        return figures

    def ended(self, session: CallSession) -> None:
        """The worker has let go of the call."""
        self._note_barge_ins(session)
        self._past = self._past.plus(session.own_stats())

    def stats(
        self, sessions: Iterable[CallSession], pacer: Pacer, recording: RecordingStats
    ) -> WorkerStats:
        """All there is to tell."""
        totals, calls = self._past, 0
        for session in sessions:
            totals = totals.plus(session.own_stats())
            calls += 1
        self._lost = max(self._lost, totals.lost)  # falls when a lost frame comes late after all
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return WorkerStats(
            calls=calls,
            rss_bytes=_rss_bytes(),
            worst_lateness_ms=pacer.worst_lateness_ns / 1e6,
            totals=WorkerTotals(
                stats=msgspec.structs.replace(totals, lost=self._lost),
                skipped_frames=pacer.skipped_frames,
                cpu_seconds=usage.ru_utime + usage.ru_stime,
                lateness=Histogram(LATENESS_BOUNDS_MS, pacer.lateness, pacer.lateness_ns / 1e6),
                loop_lag=self._loop_lag,
                depth=self._depth,
                barge_in=self._barge_in,
                recording=recording,
            ),
        )

    def _note_barge_ins(self, session: CallSession) -> None:
        for took_ms in session.take_barge_ins():
            self._barge_in.add(took_ms)


def _rss_bytes() -> int:
    """The memory the process has now (proc(5), statm: pages)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()
