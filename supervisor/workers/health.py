"""When a worker counts as stuck, and how long to wait before starting it again. Pure."""

from typing import Final

from msgspec import Struct

HEARTBEAT_LIMIT_NS: Final = 1_000_000_000
"""A worker whose heartbeat is older is stuck: its callers have heard nothing for so long."""


def is_stuck(heartbeat_ns: int, now_ns: int) -> bool:
    """Whether the loop that paces audio has stopped."""
    return now_ns - heartbeat_ns > HEARTBEAT_LIMIT_NS


class Backoff(Struct, frozen=True):
    """How patient to be with a worker that dies again and again. Times in seconds.

    A worker that ran for `steady_s` before it died starts again at once, and the count of its
    deaths begins anew. After `park_after` deaths in a row its slot is left empty.
    """

    first_s: float = 0.5
    most_s: float = 30.0
    steady_s: float = 60.0
    park_after: int = 6


class Deaths(Struct):
    """The record of a worker slot."""

    in_a_row: int = 0
    total: int = 0

    def note(self, ran_s: float, backoff: Backoff) -> None:
        """The worker died after `ran_s` seconds."""
        self.total += 1
        self.in_a_row = 1 if ran_s >= backoff.steady_s else self.in_a_row + 1

    def is_hopeless(self, backoff: Backoff) -> bool:
        """Whether to give the slot up."""
        return self.in_a_row >= backoff.park_after

    def delay_s(self, backoff: Backoff) -> float:
        """How long to wait before the next start."""
        if self.in_a_row <= 1:
            return 0.0
        return min(backoff.first_s * 2.0 ** (self.in_a_row - 2), backoff.most_s)
