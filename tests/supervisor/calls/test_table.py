"""The call table on literal events: set-up, its failures, and the end of a call."""

import pytest

from supervisor.calls import events as ev
from supervisor.calls.events import Command
from supervisor.calls.state import Leg, Part, Phase, Presence
from supervisor.calls.table import REMOVAL_RETRY_NS
from tests.supervisor.call_walk import (
    GO_ON,
    REMOVE_BRIDGE,
    REMOVE_MEDIA,
    SECOND_NS,
    SET_UP,
    STATS,
    A,
    Walk,
)


def test_set_up_step_by_step(walk: Walk) -> None:
    """Each step of a normal call asks for exactly the next ones."""
    assert walk.take(SET_UP[0]) == [ev.Place(A)]
    assert walk.take(SET_UP[1]) == [ev.CreateBridge(A), ev.CreateMediaLeg(A), ev.OpenStream(A)]
    assert walk.take(SET_UP[2]) == [ev.Join(A, Leg.CALLER)]
    assert walk.take(SET_UP[3]) == []
    assert walk.take(SET_UP[4]) == [ev.Join(A, Leg.MEDIA)]
    assert walk.take(SET_UP[5]) == []
    walk.now_ns += 9
    assert walk.take(SET_UP[6]) == []
    assert walk.call.phase is Phase.UP
    assert walk.call.up_ns == SECOND_NS + 9
    assert (walk.call.worker, walk.call.port) == (1, 20_000)
    assert walk.table.next_deadline_ns() is None
    assert walk.table.find("caller-1") is walk.call


@pytest.mark.parametrize(
    "order", [(2, 3, 4), (2, 4, 3), (3, 2, 4), (3, 4, 2), (4, 2, 3), (4, 3, 2)]
)
def test_set_up_in_any_order(walk: Walk, order: tuple[int, ...]) -> None:
    """Bridge, media leg and its StasisStart may come in any order: both legs are joined once."""
    walk.take(*SET_UP[:2])
    joins = [command for step in order for command in walk.take(SET_UP[step])]
    assert sorted(joins, key=repr) == [ev.Join(A, Leg.CALLER), ev.Join(A, Leg.MEDIA)]


def test_up_waits_for_the_media_address(walk: Walk) -> None:
    """Both legs joined is not enough: audio flows once Asterisk's media address is known."""
    walk.take(*SET_UP[:3], *SET_UP[4:])
    before = walk.call.phase
    walk.take(ev.MediaLegCreated(A))
    assert (before, walk.call.phase) == (Phase.SETTING_UP, Phase.UP)


def test_the_caller_hangs_up(up: Walk) -> None:
    """A call that is up ends in parallel and is forgotten when the last part is gone."""
    assert up.take(ev.CallerLeft("caller-1")) == [
        REMOVE_MEDIA,
        REMOVE_BRIDGE,
        ev.CloseStream(A, "caller hung up"),
    ]
    assert up.take(ev.StreamClosed(A, STATS)) == []
    assert up.take(ev.PartRemoved(A, Part.BRIDGE)) == []
    call = up.call
    assert up.take(ev.PartRemoved(A, Part.MEDIA)) == [ev.Forget(A, call)]
    assert call.stats == STATS
    assert not up.table.calls
    assert up.table.find("caller-1") is None


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1, []),
        (2, [ev.CloseStream(A, "caller hung up")]),
        (3, [REMOVE_BRIDGE, ev.CloseStream(A, "caller hung up")]),
        (4, [REMOVE_MEDIA, REMOVE_BRIDGE, ev.CloseStream(A, "caller hung up")]),
        (7, [REMOVE_MEDIA, REMOVE_BRIDGE, ev.CloseStream(A, "caller hung up")]),
    ],
)
def test_hang_up_at_each_step(walk: Walk, steps: int, expected: list[Command]) -> None:
    """What exists is removed at once, what is only requested when its answer is there."""
    walk.take(*SET_UP[:steps])
    at_once = [c for c in walk.take(ev.CallerLeft("caller-1")) if not isinstance(c, ev.Forget)]
    assert at_once == expected
    later: list[Command] = []
    if steps in (2, 3):
        later += walk.take(ev.MediaLegCreated(A))
    if steps == 2:
        later += walk.take(ev.BridgeCreated(A))
    if steps > 1:
        assert {REMOVE_MEDIA, REMOVE_BRIDGE} == set(at_once + later) & {REMOVE_MEDIA, REMOVE_BRIDGE}
        removed = [ev.PartRemoved(A, part) for part in (Part.MEDIA, Part.BRIDGE)]
        walk.take(*removed, ev.StreamClosed(A, STATS))
    assert not walk.table.calls


@pytest.mark.parametrize("step", [Part.BRIDGE, Part.MEDIA, "join caller", "join media"])
def test_a_step_fails(walk: Walk, step: str) -> None:
    """The caller goes on in the dialplan, and what the step may have made is removed."""
    steps = SET_UP[:2] if step in (Part.BRIDGE, Part.MEDIA) else SET_UP[:5]
    walk.take(*steps)
    commands = walk.take(ev.StepFailed(A, step, "no answer"))
    assert commands[0] == GO_ON
    assert commands[-1] == ev.CloseStream(A, f"{step} failed: no answer")
    made = [REMOVE_MEDIA, REMOVE_BRIDGE] if "join" in step else [ev.RemovePart(A, Part(step))]
    assert commands[1:-1] == made


def test_a_second_step_fails_too(walk: Walk) -> None:
    """The other creation's failure is no new end, but its part is removed as well."""
    walk.take(*SET_UP[:2], ev.StepFailed(A, Part.BRIDGE, "500"))
    assert walk.take(ev.StepFailed(A, Part.MEDIA, "500")) == [REMOVE_MEDIA]
    assert walk.call.reason == "bridge failed: 500"


def test_no_worker_takes_the_call(walk: Walk) -> None:
    """Without a place the caller goes on in the dialplan, and nothing else was made."""
    walk.take(SET_UP[0])
    assert walk.take(ev.PlacementFailed(A, "no port")) == [GO_ON]
    call = walk.call
    assert walk.take(ev.PartRemoved(A, Part.CALLER)) == [ev.Forget(A, call)]
    assert (call.reason, call.up_ns) == ("no port", 0)


def test_set_up_timeout(walk: Walk) -> None:
    """A set-up that takes too long ends; what is still requested is removed when it answers."""
    walk.take(*SET_UP[:3])
    assert walk.table.next_deadline_ns() == 11 * SECOND_NS
    assert walk.wait(10 * SECOND_NS - 1) == []
    assert walk.wait(1) == [GO_ON, REMOVE_BRIDGE, ev.CloseStream(A, "setup_timeout")]
    assert walk.table.next_deadline_ns() is None
    assert walk.take(ev.MediaLegCreated(A)) == [REMOVE_MEDIA]


@pytest.mark.parametrize("part", [Part.MEDIA, Part.BRIDGE])
def test_removal_fails_and_is_retried(up: Walk, part: Part) -> None:
    """A part that can't be removed now is tried again until it is gone."""
    up.take(ev.CallerLeft("caller-1"), ev.StreamClosed(A, STATS))
    other = Part.BRIDGE if part is Part.MEDIA else Part.MEDIA
    up.take(ev.PartRemoved(A, other))
    for _ in range(3):
        assert up.take(ev.RemovalFailed(A, part)) == []
        assert up.wait(REMOVAL_RETRY_NS - 1) == []
        assert up.wait(1) == [ev.RemovePart(A, part)]
    call = up.call
    assert up.take(ev.PartRemoved(A, part)) == [ev.Forget(A, call)]


def test_letting_the_caller_go_fails(walk: Walk) -> None:
    """A caller who can't be given back now is tried again, and may leave by hanging up."""
    walk.take(SET_UP[0], ev.PlacementFailed(A, "no port"), ev.RemovalFailed(A, Part.CALLER))
    assert walk.wait(REMOVAL_RETRY_NS) == [GO_ON]
    call = walk.call
    assert walk.take(ev.CallerLeft("caller-1")) == [ev.Forget(A, call)]


def test_a_removal_fails_of_what_is_gone(up: Walk) -> None:
    """The caller hung up while the request failed: the retry has nothing to do."""
    up.take(ev.StreamEnded(A, "", failed=True), ev.CallerLeft("caller-1"))
    up.take(ev.RemovalFailed(A, Part.CALLER))
    assert up.wait(REMOVAL_RETRY_NS) == []
    assert up.call.caller is Presence.ABSENT


def test_the_media_leg_is_lost(up: Walk) -> None:
    """Without its media leg a call ends, and the caller goes on in the dialplan."""
    assert up.take(ev.MediaLegLeft(A)) == [
        GO_ON,
        REMOVE_BRIDGE,
        ev.CloseStream(A, "media leg lost"),
    ]


def test_the_media_leg_is_lost_before_its_answer(walk: Walk) -> None:
    """Its creation is under way, so it is removed when the answer is there."""
    walk.take(*SET_UP[:3])
    assert REMOVE_MEDIA not in walk.take(ev.MediaLegLeft(A))
    assert walk.take(ev.MediaLegCreated(A)) == [REMOVE_MEDIA]


@pytest.mark.parametrize("leg", list(Leg))
def test_a_leg_is_missing_in_the_bridge(up: Walk, leg: Leg) -> None:
    """A leg that is not in the bridge any more is put there again; the call stays up."""
    assert up.take(ev.LegMissing(A, leg)) == [ev.Join(A, leg)]
    assert up.take(ev.LegMissing(A, leg)) == [ev.Join(A, leg)]
    up.take(ev.Joined(A, leg))
    assert (up.call.phase, up.call.up_ns) == (Phase.UP, SECOND_NS)


def test_abandoned_calls_leave_asterisk_alone(walk: Walk) -> None:
    """Another supervisor has the caller: only the worker is told, then the call is forgotten."""
    walk.take(*SET_UP)
    assert walk.table.abandon(A, "taken over") == [ev.CloseStream(A, "taken over")]
    assert [type(command) for command in walk.take(ev.StreamClosed(A, STATS))] == [ev.Forget]
    assert not walk.table.calls
    assert walk.table.abandon(A, "taken over") == []


def test_a_caller_who_comes_back_is_a_new_call(walk: Walk) -> None:
    """The dialplan sends the caller in again while the call before still ends: two calls."""
    walk.take(*SET_UP)
    walk.take(ev.StreamEnded(A, "closed with 1000", failed=False), ev.CallerLeft("caller-1"))
    [place] = walk.take(ev.CallerEntered("caller-1"))
    assert isinstance(place, ev.Place)
    assert place.call_sid != A
    walk.take(ev.StreamClosed(A, STATS), ev.PartRemoved(A, Part.MEDIA))
    walk.take(ev.PartRemoved(A, Part.BRIDGE))
    assert list(walk.table.calls) == [place.call_sid]
    assert walk.table.find("caller-1") is walk.table.calls[place.call_sid]
