"""When a worker counts as stuck, and how long to wait before starting it again. Pure."""

from typing import Final

from msgspec import Struct

HEARTBEAT_LIMIT_NS: Final = 1_000_000_000
"""A worker whose heartbeat is older is stuck: its callers have heard nothing for so long."""
BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MOST_S: Final = 30.0
STEADY_S: Final = 60.0
"""A worker that ran so long before it died starts again at once."""
PARK_AFTER: Final = 6
"""So many deaths in a row, none of them after a steady run, and the slot is left empty."""


def is_stuck(heartbeat_ns: int, now_ns: int) -> bool:
    """Whether the loop that paces audio has stopped."""
    return now_ns - heartbeat_ns > HEARTBEAT_LIMIT_NS


class Deaths(Struct):
    """The record of a worker slot."""

    in_a_row: int = 0
    total: int = 0

    def note(self, ran_s: float) -> None:
        """The worker died after `ran_s` seconds."""
        self.total += 1
        self.in_a_row = 1 if ran_s >= STEADY_S else self.in_a_row + 1

    @property
    def parked(self) -> bool:
        """Whether to give the slot up."""
        return self.in_a_row >= PARK_AFTER

    @property
    def delay_s(self) -> float:
        """How long to wait before the next start."""
        if self.in_a_row <= 1:
            return 0.0
        return min(BACKOFF_FIRST_S * 2.0 ** (self.in_a_row - 2), BACKOFF_MOST_S)
