"""Counts per bucket, as workers keep and send them: the supervisor makes metrics of them. Pure.

The bounds travel with the counts, so a worker and a supervisor of different versions agree.
"""

from bisect import bisect_left
from typing import Final, Self

import msgspec

DEPTH_BOUNDS_MS: Final = (0, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000)
LAG_BOUNDS_MS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
BARGE_IN_BOUNDS_MS: Final = (1, 2, 5, 10, 15, 20, 25, 40, 60, 100, 500)
CONNECT_BOUNDS_MS: Final = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 12_000, 30_000)


class Histogram(msgspec.Struct):
    """How often a value was at most so large: `counts` has one more bucket, for all above."""

    bounds: tuple[float, ...] = ()
    counts: list[int] = []
    total: float = 0.0
    """The sum of all values."""

    @classmethod
    def of(cls, bounds: tuple[float, ...]) -> Self:
        """An empty one with these upper bounds, in rising order."""
        return cls(bounds, [0] * (len(bounds) + 1))

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def plus(self, other: "Histogram", times: int = 1) -> "Histogram":
        """Both together, or with `times` -1 what is in this one and not in the other.

        One that has no bounds is empty. Other bounds than ours can't be added up: what was
        counted by them is left out.
        """
        if not self.bounds:
            empty = Histogram.of(other.bounds)
            return empty.plus(other, times) if other.bounds else self
        if self.bounds != other.bounds:
            return self
        pairs = zip(self.counts, other.counts, strict=True)
        counts = [mine + times * others for mine, others in pairs]
        return Histogram(self.bounds, counts, self.total + times * other.total)
