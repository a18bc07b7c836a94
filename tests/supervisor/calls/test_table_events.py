"""The call table on literal events: streams, digits, and events that come late or twice."""

import pytest

from supervisor.calls import events as ev
from supervisor.calls.events import Event
from supervisor.calls.state import OnEnd, Part, Phase
from supervisor.calls.table import Rules
from tests.supervisor.call_walk import (
    GO_ON,
    HANG_UP,
    REMOVE_BRIDGE,
    REMOVE_MEDIA,
    SECOND_NS,
    SET_UP,
    STATS,
    A,
    Walk,
)


def test_the_voice_server_ends_the_stream() -> None:
    """What becomes of the caller is the operator's decision."""
    for on_end, expected in ((OnEnd.HANG_UP, HANG_UP), (OnEnd.CONTINUE, GO_ON)):
        walk = Walk(Rules(on_end, OnEnd.CONTINUE, 10 * SECOND_NS))
        walk.take(*SET_UP)
        commands = walk.take(ev.StreamEnded(A, "closed with 1000", failed=False))
        assert commands == [
            expected,
            REMOVE_MEDIA,
            REMOVE_BRIDGE,
            ev.CloseStream(A, "closed with 1000"),
        ]


def test_the_voice_server_fails(up: Walk) -> None:
    """A voice server that can't be reached gives the caller back to the dialplan, always."""
    assert up.take(ev.StreamEnded(A, "unreachable", failed=True))[0] == GO_ON


def test_a_worker_gives_up(up: Walk) -> None:
    """A call that its worker lets go of unasked ends; there is no stream left to close."""
    assert up.take(ev.StreamClosed(A, STATS)) == [GO_ON, REMOVE_MEDIA, REMOVE_BRIDGE]


def test_a_lost_stream_moves(up: Walk) -> None:
    """A call whose worker died moves, and ends at its new worker as any other."""
    assert up.take(ev.StreamLost(A)) == [ev.MoveStream(A)]
    assert up.take(ev.StreamMoved(A, worker=0)) == []
    assert up.call.worker == 0
    assert up.call.phase is Phase.UP
    assert up.take(ev.CallerLeft("caller-1"))[-1] == ev.CloseStream(A, "caller hung up")


def test_a_stream_is_lost_in_the_set_up(walk: Walk) -> None:
    """The set-up goes on while the stream moves."""
    walk.take(*SET_UP[:4])
    assert walk.take(ev.StreamLost(A)) == [ev.MoveStream(A)]
    walk.take(ev.StreamMoved(A, worker=0), *SET_UP[4:])
    assert walk.call.phase is Phase.UP


def test_a_worker_dies_while_the_call_ends(up: Walk) -> None:
    """A call that is ending doesn't move: its stream is gone with the worker."""
    up.take(ev.CallerLeft("caller-1"))
    assert up.take(ev.StreamLost(A)) == []
    up.take(ev.PartRemoved(A, Part.BRIDGE), ev.PartRemoved(A, Part.MEDIA))
    assert not up.table.calls


def test_digits_both_ways(up: Walk) -> None:
    """A key goes to the worker, digits of the voice server to the caller, until the call ends."""
    assert up.take(ev.DigitPressed("caller-1", "5")) == [ev.PressDigit(A, "5")]
    assert up.take(ev.DigitsWanted(A, "12#")) == [ev.SendDigits(A, "12#")]
    up.take(ev.CallerLeft("caller-1"))
    assert up.take(ev.DigitPressed("caller-1", "6")) == []
    assert up.take(ev.DigitsWanted(A, "3")) == []


def test_a_caller_is_announced_twice(walk: Walk) -> None:
    """A second StasisStart of the same channel makes no second call, at whichever step."""
    for event in SET_UP:
        walk.take(event)
        assert walk.take(SET_UP[0]) == []
        assert len(walk.table.calls) == 1


@pytest.mark.parametrize("event", SET_UP[2:])
def test_events_that_come_twice(walk: Walk, event: Event) -> None:
    """A repeated event asks for nothing that was not asked for."""
    walk.take(*SET_UP)
    assert walk.take(event) == []
    assert walk.call.phase is Phase.UP


@pytest.mark.parametrize("event", [*SET_UP[1:], ev.StreamStarted(A), ev.StreamLost(A)])
def test_events_after_the_end(walk: Walk, event: Event) -> None:
    """An event of a call that is forgotten does nothing."""
    walk.take(SET_UP[0], ev.CallerLeft("caller-1"))
    assert walk.take(event) == []
    assert not walk.table.calls


def test_a_late_acceptance_does_not_revive_a_stream(walk: Walk) -> None:
    """A StreamStarted behind the stream's end leaves the call free to go."""
    walk.take(*SET_UP, ev.CallerLeft("caller-1"), ev.StreamClosed(A, STATS), ev.StreamStarted(A))
    walk.take(ev.PartRemoved(A, Part.BRIDGE), ev.PartRemoved(A, Part.MEDIA))
    assert not walk.table.calls


def test_an_end_of_our_own(up: Walk) -> None:
    """A call is ended from outside; a second wish and one for an unknown call do nothing."""
    commands = up.table.end(A, "shutdown", OnEnd.CONTINUE, up.now_ns)
    assert commands == [GO_ON, REMOVE_MEDIA, REMOVE_BRIDGE, ev.CloseStream(A, "shutdown")]
    assert up.table.end(A, "shutdown", OnEnd.CONTINUE, up.now_ns) == []
    assert up.table.end("CA9", "shutdown", OnEnd.CONTINUE, up.now_ns) == []


def test_calls_are_apart(up: Walk) -> None:
    """What happens to one call leaves the others alone."""
    assert up.take(ev.CallerEntered("caller-2")) == [ev.Place("CA2")]
    up.take(ev.CallerLeft("caller-1"))
    assert up.table.calls["CA2"].phase is Phase.SETTING_UP
    assert up.take(ev.CallerLeft("caller-3")) == []
