"""When a worker is stuck, and how long to wait before it is started again."""

from supervisor.workers.health import Backoff, Deaths, is_stuck

BACKOFF = Backoff(first_s=0.5, most_s=3.0, steady_s=60.0, park_after=6)


def test_stuck_is_a_heartbeat_older_than_a_second() -> None:
    """One second is still alive, a nanosecond more is not."""
    assert not is_stuck(5_000_000_000, 6_000_000_000)
    assert is_stuck(5_000_000_000, 6_000_000_001)
    assert not is_stuck(5_000_000_001, 5_000_000_000)


def test_the_first_death_costs_nothing() -> None:
    """A worker that dies once starts again at once."""
    deaths = Deaths()
    deaths.note(1.0, BACKOFF)
    assert (deaths.total, deaths.delay_s(BACKOFF)) == (1, 0.0)


def test_backing_off() -> None:
    """From the second death on the pause doubles up to its limit, and the sixth parks the slot."""
    deaths, delays = Deaths(), []
    while not deaths.is_hopeless(BACKOFF):
        deaths.note(0.1, BACKOFF)
        delays.append(deaths.delay_s(BACKOFF))
    assert delays == [0.0, 0.5, 1.0, 2.0, 3.0, 3.0]


def test_a_steady_run_forgives() -> None:
    """Deaths count as in a row only when no worker in between ran for long."""
    deaths = Deaths()
    for ran_s in (1.0, 1.0, 1.0, 60.0):
        deaths.note(ran_s, BACKOFF)
    assert (deaths.total, deaths.in_a_row, deaths.delay_s(BACKOFF)) == (4, 1, 0.0)
    deaths.note(59.9, BACKOFF)
    assert deaths.in_a_row == 2
