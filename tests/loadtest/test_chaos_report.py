"""The figures of a chaos run, on literal arrivals."""

from loadtest.chaos_report import CallOutcome, Fault, gap_after, lines, summarize

SECOND = 1_000_000_000
FRAME = 20_000_000


def arrivals(first_s: float, seconds: float, hole_at_s: float = 0.0, hole_ms: int = 0) -> list[int]:
    """Packets each 20 ms, with one hole."""
    times, at = [], int(first_s * SECOND)
    while at < (first_s + seconds) * SECOND:
        times.append(at)
        in_hole = hole_ms and times[-1] <= hole_at_s * SECOND < times[-1] + FRAME
        at += FRAME + (hole_ms * 1_000_000 if in_hole else 0)
    return times


def call(times: list[int], *, answered: bool = True, by_caller: bool = True) -> CallOutcome:
    """A call as its caller saw it."""
    return CallOutcome(answered, by_caller, times)


def test_gap_around_a_fault() -> None:
    """The hole that the fault made counts, beyond the 20 ms that are due."""
    times = arrivals(0, 10, hole_at_s=5, hole_ms=60)
    assert gap_after(times, 5 * SECOND, 9 * SECOND) == 60
    assert gap_after(times, 2 * SECOND, 6 * SECOND) == 60
    assert gap_after(times, 2 * SECOND, 4 * SECOND) == 0, "it came later"
    assert gap_after(times, 7 * SECOND, 9 * SECOND) == 0


def test_calls_that_were_not_up_have_no_gap() -> None:
    """Before the first packet, after the last, or without packets at all."""
    times = arrivals(5, 2)
    assert gap_after(times, 1 * SECOND, 2 * SECOND) is None
    assert gap_after(times, 9 * SECOND, 10 * SECOND) is None
    assert gap_after([], 1 * SECOND, 2 * SECOND) is None


def test_only_moved_calls_count_for_a_dead_worker() -> None:
    """Of three calls one was moved: its gap is the fault's, the others' are not."""
    outcomes = [call(arrivals(0, 10)), call(arrivals(0, 10, 5, 40)), call(arrivals(0, 10))]
    report = summarize(outcomes, [Fault("worker SIGKILL", 5 * SECOND, moved=1)], {})
    assert (report.by_kind[0].calls, report.gap_ms_p50, report.gap_ms_max) == (1, 40.0, 40.0)


def test_all_calls_count_for_other_faults() -> None:
    """A dead supervisor should touch no call: all of them are looked at."""
    outcomes = [call(arrivals(0, 10)), call(arrivals(0, 10))]
    report = summarize(outcomes, [Fault("supervisor SIGKILL", 5 * SECOND)], {})
    assert (report.by_kind[0].calls, report.gap_ms_max) == (2, 0.0)


def test_a_gap_is_only_one_fault_s() -> None:
    """A second fault soon after the first: the gap behind it is not the first one's."""
    outcomes = [call(arrivals(0, 10, 5, 40))]
    faults = [Fault("ARI cut", 3 * SECOND), Fault("supervisor SIGKILL", int(4.9 * SECOND))]
    gaps = {row.kind: row.max_ms for row in summarize(outcomes, faults, {}).by_kind}
    assert gaps == {"ARI cut": 0.0, "supervisor SIGKILL": 40.0}


def test_a_gap_over_the_next_fault_is_that_one_s() -> None:
    """The last packet came before the second fault, the next one a second after it."""
    outcomes = [call(arrivals(0, 10, 4.995, 1000))]
    faults = [Fault("ARI cut", 3 * SECOND), Fault("worker SIGSTOP", 5 * SECOND)]
    gaps = {row.kind: row.max_ms for row in summarize(outcomes, faults, {}).by_kind}
    assert gaps == {"ARI cut": 0.0, "worker SIGSTOP": 1000.0}


def test_dropped_and_leaks() -> None:
    """Unanswered calls and calls that the far end ended are dropped; leaks make a run bad."""
    outcomes = [
        call(arrivals(0, 1)),
        call([], answered=False),
        call(arrivals(0, 1), by_caller=False),
    ]
    report = summarize(outcomes, [], {"channels": 0})
    assert (report.calls_placed, report.calls_dropped, report.ok) == (3, 2, False)
    assert summarize(outcomes[:1], [], {"channels": 0}).ok
    assert not summarize(outcomes[:1], [], {"channels": 1}).ok


def test_lines_for_people() -> None:
    """The counts, a row per kind of fault, and what was left."""
    outcomes = [call(arrivals(0, 10, 5, 40))]
    report = summarize(outcomes, [Fault("ARI cut", 5 * SECOND)], {"bridges": 2})
    text = "\n".join(lines(report))
    assert "calls placed 1, dropped 0" in text
    assert "ARI cut" in text
    assert "bridges 2" in text
