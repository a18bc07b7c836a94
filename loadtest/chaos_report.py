"""What chaos did to the callers: gaps where they are, calls that were dropped. Pure."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Final

import numpy as np
from msgspec import Struct

PTIME_MS: Final = 20.0
PTIME_NS: Final = 20_000_000
AFTERMATH_S: Final = 4.0
"""A gap within this time after a fault, and before the next one, is the fault's."""
NEVER_NS: Final = (1 << 63) - 1


class CallOutcome(Struct, frozen=True):
    """One caller's view of a call: when packets came (monotonic ns), and how it ended."""

    answered: bool
    ended_by_caller: bool
    arrivals_ns: list[int]

    @property
    def seconds(self) -> float:
        """How long packets came."""
        return (self.arrivals_ns[-1] - self.arrivals_ns[0]) / 1e9 if self.arrivals_ns else 0.0

    def __str__(self) -> str:
        return f"answered {self.answered}, ended by caller {self.ended_by_caller}"

    @property
    def dropped(self) -> bool:
        """Whether the caller did not get the call that they wanted."""
        return not (self.answered and self.ended_by_caller)


class Fault(Struct, frozen=True):
    """What was done, and when (monotonic ns). `moved` calls had to go to another worker."""

    kind: str
    at_ns: int
    moved: int = 0


class GapFigures(Struct, frozen=True):
    """Gaps of the calls that a kind of fault touched, in ms beyond the 20 that are due."""

    kind: str
    faults: int
    calls: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class Report(Struct, frozen=True):
    """The result of a run. `leaks` counts what was left of ended calls, by kind."""

    calls_placed: int
    calls_dropped: int
    faults: int
    gap_ms_p50: float
    gap_ms_p99: float
    gap_ms_max: float
    leaks: dict[str, int]
    by_kind: list[GapFigures]

    @property
    def ok(self) -> bool:
        """Whether no call was dropped and nothing was left."""
        return self.calls_dropped == 0 and not any(self.leaks.values())


def gap_after(arrivals_ns: Sequence[int], at_ns: int, until_ns: int) -> float | None:
    """The longest gap in ms beyond 20 in a time after a fault; None if the call was not up then.

    A gap begins when the packet that didn't come was due.
    """
    if not arrivals_ns or not arrivals_ns[0] < at_ns < arrivals_ns[-1]:
        return None
    times = np.asarray(arrivals_ns, dtype=np.int64)
    due_ns = times[:-1] + PTIME_NS
    gaps_ms = np.diff(times)[(at_ns <= due_ns) & (due_ns < until_ns)] / 1e6
    return float(gaps_ms.max() - PTIME_MS) if len(gaps_ms) else None


def gaps_of(fault: Fault, until_ns: int, outcomes: Iterable[CallOutcome]) -> list[float]:
    """The gaps, up to a time, of the calls that the fault touched.

    A dead worker's calls are moved: of all calls that were up, those with the longest gaps, as
    many as were moved. Other faults should touch none, so all calls that were up count.
    """
    found = (gap_after(call.arrivals_ns, fault.at_ns, until_ns) for call in outcomes)
    gaps = [gap for gap in found if gap is not None]
    return sorted(gaps, reverse=True)[: fault.moved] if fault.moved else gaps


def summarize(
    outcomes: Sequence[CallOutcome], faults: Sequence[Fault], leaks: dict[str, int]
) -> Report:
    """Put the figures of a run together."""
    ends_ns = [fault.at_ns + int(AFTERMATH_S * 1e9) for fault in faults]
    starts_ns = [fault.at_ns for fault in faults[1:]]
    untils_ns = [min(pair) for pair in zip_longest(ends_ns, starts_ns, fillvalue=NEVER_NS)]
    by_fault = [
        (fault, gaps_of(fault, until_ns, outcomes))
        for fault, until_ns in zip(faults, untils_ns, strict=True)
    ]
    every = [gap for _, gaps in by_fault for gap in gaps]
    kinds = sorted({fault.kind for fault in faults})
    p50, p99, longest = _spread(every)
    return Report(
        calls_placed=len(outcomes),
        calls_dropped=sum(call.dropped for call in outcomes),
        faults=len(faults),
        gap_ms_p50=p50,
        gap_ms_p99=p99,
        gap_ms_max=longest,
        leaks=leaks,
        by_kind=[_figures(kind, by_fault) for kind in kinds],
    )


def _figures(kind: str, by_fault: list[tuple[Fault, list[float]]]) -> GapFigures:
    lists = [gaps for fault, gaps in by_fault if fault.kind == kind]
    every = [gap for gaps in lists for gap in gaps]
    return GapFigures(kind, len(lists), len(every), *_spread(every))


def _spread(gaps: list[float]) -> tuple[float, float, float]:
    """The median, the 99th percentile and the longest; zeros when there are none."""
    if not gaps:
        return 0.0, 0.0, 0.0
    p50, p99 = np.percentile(gaps, [50, 99])
    return round(float(p50), 2), round(float(p99), 2), round(max(gaps), 2)


def lines(report: Report) -> list[str]:
    """The report for people."""
    table = [
        f"calls placed {report.calls_placed}, dropped {report.calls_dropped}",
        f"{'fault':<18}{'times':>6}{'calls':>7}{'gap p50':>9}{'p99':>9}{'max':>9}  ms beyond 20",
    ]
    table += [
        f"{row.kind:<18}{row.faults:>6}{row.calls:>7}{row.p50_ms:>9.1f}"
        f"{row.p99_ms:>9.1f}{row.max_ms:>9.1f}"
        for row in report.by_kind
    ]
    leaks = ", ".join(f"{name} {count}" for name, count in report.leaks.items())
    return [*table, f"left at the end: {leaks}"]
