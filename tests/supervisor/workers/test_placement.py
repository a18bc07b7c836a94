"""Which worker takes a new call."""

from hypothesis import given
from hypothesis import strategies as st

from supervisor.workers.placement import Load, rank


def test_fewest_calls_first() -> None:
    """The worker with the fewest calls is tried first."""
    assert rank([Load(0, 3, 10), Load(1, 1, 10), Load(2, 2, 10)]) == [1, 2, 0]


def test_more_ports_win_a_tie() -> None:
    """Of equally busy workers the one with more free ports is tried first."""
    assert rank([Load(0, 1, 4), Load(1, 1, 9), Load(2, 1, 4)]) == [1, 0, 2]


def test_nobody_is_there() -> None:
    """Without workers there is nobody to try."""
    assert rank([]) == []


@given(st.integers(1, 8), st.integers(0, 100))
def test_calls_spread_evenly(workers: int, calls: int) -> None:
    """Calls placed one by one differ by one call at most."""
    counts = [0] * workers
    for _ in range(calls):
        loads = [Load(worker, count, 100 - count) for worker, count in enumerate(counts)]
        counts[rank(loads)[0]] += 1
    assert max(counts) - min(counts) <= 1
