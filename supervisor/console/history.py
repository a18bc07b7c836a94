"""The last hour in a ring: one sample each five seconds, in memory only. Pure."""

from collections import deque
from typing import Final

from msgspec import Struct
from msgspec.structs import astuple

from supervisor.console.judge import Level, judge_call, worst
from supervisor.console.seen import Seen

PERIOD_S: Final = 5
KEPT: Final = 3600 // PERIOD_S
SETUP_OUTCOMES: Final = ("setup_failed", "refused")
FAULT_OUTCOMES: Final = ("stream_failed", "media_lost", "worker_failed")


class Sample(Struct, frozen=True):
    """A moment. None: no call told of it.

    `setup_failed` and `broken` are calls since the sample before: those that never came about
    (refused ones included), and those that a fault ended.
    """

    unix_s: int
    calls: int
    suffering: int
    mos: float | None
    lowest_mos: float | None
    jitter_ms: float | None
    highest_jitter_ms: float | None
    late_share: float
    setup_failed: int
    broken: int


class History:
    """Samples of an hour, oldest first."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=KEPT)
        self._failed: dict[str, int] | None = None

    @property
    def last(self) -> Sample | None:
        """The newest one."""
        return self._samples[-1] if self._samples else None

    def add(self, seen: Seen) -> Sample:
        """Take a sample of what is seen now."""
        before = seen.node.failed if self._failed is None else self._failed
        self._failed = dict(seen.node.failed)
        sample = _sample(seen, before)
        self._samples.append(sample)
        return sample

    def columns(self) -> dict[str, list[float | None]]:
        """All samples, by field."""
        names = Sample.__struct_fields__
        rows = [astuple(sample) for sample in self._samples]
        return {name: [row[index] for row in rows] for index, name in enumerate(names)}


def _sample(seen: Seen, before: dict[str, int]) -> Sample:
    workers = {worker.worker: worker for worker in seen.workers}
    levels = [worst(judge_call(call, workers.get(call.worker))) for call in seen.calls]
    figures = [call.figures for call in seen.calls if call.figures]
    mos = [each.quality.mos for each in figures if each.stats.frames_in]
    jitter = [each.jitter_now_ms for each in figures if each.stats.frames_in]
    now = seen.node.failed
    return Sample(
        unix_s=round(seen.unix_s),
        calls=len(seen.calls),
        suffering=levels.count(Level.SEVERE),
        mos=_mean(mos),
        lowest_mos=min(mos, default=None),
        jitter_ms=_mean(jitter),
        highest_jitter_ms=max(jitter, default=None),
        late_share=round(max((worker.late_share for worker in seen.workers), default=0.0), 4),
        setup_failed=sum(now.get(name, 0) - before.get(name, 0) for name in SETUP_OUTCOMES),
        broken=sum(now.get(name, 0) - before.get(name, 0) for name in FAULT_OUTCOMES),
    )


def _mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 2) if values else None
