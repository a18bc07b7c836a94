"""How ends of calls are counted: on literal calls."""

import pytest

from shim.control import CallQuality, CallStats
from supervisor.calls.measures import OUTCOME_NAMES, STEPS, CallMeasures, outcome
from supervisor.calls.state import Call

SECOND = 1_000_000_000


def call(reason: str, *, up: bool = True) -> Call:
    """A call that began at 1 s, was up after 50 ms if at all, and is over."""
    up_ns = SECOND + 50_000_000 if up else 0
    return Call("CA1", "c1", SECOND, worker=1, up_ns=up_ns, reason=reason)


@pytest.mark.parametrize(
    ("reason", "up", "name"),
    [
        ("caller hung up", True, "caller_hung_up"),
        ("caller hung up", False, "abandoned"),
        ("closed with 1000", True, "stream_ended"),
        ("voice server unreachable: no answer within 5 s", True, "stream_failed"),
        ("setup_timeout", False, "setup_failed"),
        ("join media failed: 500", False, "setup_failed"),
        ("media leg lost", True, "media_lost"),
        ("worker gave up", True, "worker_failed"),
        ("shutdown", True, "shutdown"),
        ("refused: MAX_CALLS is 3", False, "refused"),
        ("another supervisor has taken over", True, "other"),
    ],
)
def test_outcomes(reason: str, up: bool, name: str) -> None:
    """Few words for many reasons."""
    assert outcome(call(reason, up=up)) == name
    assert name in OUTCOME_NAMES


def test_a_call_that_was_up() -> None:
    """Its times and its quality are measured."""
    measures = CallMeasures()
    ended = call("caller hung up")
    ended.stats, ended.quality = CallStats(frames_in=100), CallQuality(4.2, 3.0, 40, 120)
    measures.call_ended(ended, 11 * SECOND)
    assert measures.ended == {(1, "caller_hung_up"): 1}
    totals = {
        name: getattr(measures, name).total
        for name in ("setup", "duration", "mos", "jitter", "longest_gap", "first_audio")
    }
    assert totals == {
        "setup": 50,
        "duration": 10_000,
        "mos": 4.2,
        "jitter": 3,
        "longest_gap": 40,
        "first_audio": 120,
    }


def test_a_call_that_never_was_up() -> None:
    """It counts as ended; there is nothing to measure."""
    measures = CallMeasures()
    measures.call_ended(call("setup_timeout", up=False), 11 * SECOND)
    assert measures.ended == {(1, "setup_failed"): 1}
    assert measures.duration.count == measures.setup.count == measures.mos.count == 0


def test_a_caller_who_sent_nothing() -> None:
    """No packet, no opinion; what the caller heard is measured all the same."""
    measures = CallMeasures()
    ended = call("caller hung up")
    ended.quality = CallQuality(4.41, 0.0, 0, 120)
    measures.call_ended(ended, 11 * SECOND)
    assert (measures.mos.count, measures.first_audio.count) == (0, 1)


def test_an_adopted_call_has_no_set_up() -> None:
    """It was set up under another supervisor."""
    measures = CallMeasures()
    ended = call("caller hung up")
    ended.was_adopted = True
    measures.call_ended(ended, 11 * SECOND)
    assert (measures.setup.count, measures.duration.count) == (0, 1)


def test_steps() -> None:
    """Each step of the set-up has times of its own."""
    measures = CallMeasures()
    for step in ("bridge", "media", "join caller", "join media"):
        measures.step_done(step, 3_000_000)
    assert {step: measures.steps[step].total for step in STEPS} == dict.fromkeys(STEPS, 3)
