"""How the callers of a load test behave: the distributions, and what is not allowed."""

from random import Random
from statistics import fmean

import msgspec
import pytest

from loadtest.load_plan import (
    LONGEST_IN_MEANS,
    Behaviour,
    BehaviourError,
    CallOrder,
    check_target,
    next_call,
    pause_s,
    read_behaviour,
)

URI = "sip:agent@127.0.0.1:5060"
MANY = 4000


def calls(behaviour: Behaviour) -> list[CallOrder]:
    """Many calls of one caller; their chance is the same each time."""
    random = Random(7)
    return [next_call(behaviour, URI, number, random) for number in range(MANY)]


def test_lengths() -> None:
    """All three distributions have the mean that was asked for, and end."""
    fixed = {call.seconds for call in calls(Behaviour(call_s=20, length="fixed"))}
    uniform = [call.seconds for call in calls(Behaviour(call_s=20, length="uniform"))]
    exponential = [call.seconds for call in calls(Behaviour(call_s=20))]
    assert fixed == {20.0}
    assert 10 <= min(uniform) < 11 < 29 < max(uniform) <= 30
    assert fmean(uniform) == pytest.approx(20, rel=0.02)
    assert fmean(exponential) == pytest.approx(20, rel=0.05)
    assert max(exponential) == 20 * LONGEST_IN_MEANS


def test_shares() -> None:
    """Early hang-ups and barge-ins are as frequent as asked for."""
    made = calls(Behaviour(cancel=0.1, drop=0.2, barge_in=0.4, length="fixed"))
    canceled = [call for call in made if call.cancel]
    dropped = [call for call in made if not call.cancel and call.seconds == 0]
    assert len(canceled) / MANY == pytest.approx(0.1, abs=0.02)
    assert len(dropped) / MANY == pytest.approx(0.2, abs=0.02)
    assert sum(call.sound.barges_in for call in made) / MANY == pytest.approx(0.4, abs=0.03)


def test_the_script_is_long_enough() -> None:
    """No call outlasts what its caller has to say."""
    assert all(call.seconds <= call.sound.up_to_s for call in calls(Behaviour(length="uniform")))


def test_the_same_seed_gives_the_same_calls() -> None:
    """A load test can be repeated."""
    assert calls(Behaviour(cancel=0.5)) == calls(Behaviour(cancel=0.5))


def test_arrivals() -> None:
    """The times between a caller's calls have the rate's mean; a long call is made up for."""
    random = Random(3)
    behaviour = Behaviour(calls_per_minute=6)
    assert fmean(pause_s(behaviour, 0, random) for _ in range(MANY)) == pytest.approx(10, rel=0.05)
    assert pause_s(behaviour, 1e6, random) == 0
    assert pause_s(Behaviour(), 0, random) == 0


def test_options_are_read() -> None:
    """Numbers also come as text, from a form; what belongs to others is left alone."""
    options: dict[str, object] = {"call_s": "3.5", "length": "fixed", "users": 10}
    assert read_behaviour(options) == Behaviour(call_s=3.5, length="fixed")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("barge_in", 1.5, "--barge-in is '1.5': Expected `float` <= 1"),
        ("listen_s", 0, "--listen-s is '0': Expected `float` >= 0.5"),
        ("length", "long", "--length is 'long': Invalid enum value 'long'"),
        ("call_s", "soon", "--call-s is 'soon': Expected `float`, got `str`"),
    ],
)
def test_bad_options(option: str, value: object, message: str) -> None:
    """One error that names the option, the value and what is allowed."""
    with pytest.raises(BehaviourError, match=message):
        read_behaviour({option: value})


def test_a_target_that_is_none() -> None:
    """Only SIP URIs can be called."""
    check_target(URI)
    with pytest.raises(BehaviourError, match="--host is 'http://a': allowed is sip:user@host:port"):
        check_target("http://a")


def test_orders_travel_as_json() -> None:
    """What one process writes the other reads."""
    order = calls(Behaviour())[0]
    assert msgspec.json.decode(msgspec.json.encode(order), type=CallOrder) == order
