"""What ARI's events and lists mean for calls, on literals."""

import pytest

from supervisor.ari.events import AriEvent, Bridge, CallerId, Channel, Dialplan
from supervisor.calls import events as ev
from supervisor.calls.ari_meaning import Differences, interpret, reconcile
from supervisor.calls.events import Event
from supervisor.calls.names import CallNames, new_sid
from supervisor.calls.state import Call, Leg, Part, Phase, Presence

NAMES = CallNames("voice-agent")
CALLER = Channel(
    id="1700000000.1",
    name="PJSIP/trunk-00000001",
    caller=CallerId("A Caller", "+15550100"),
    dialplan=Dialplan("agent", "+15551234567", 2, "Stasis", "voice-agent,inbound"),
)
MEDIA = Channel(
    id="voice-agent.media.CA1",
    name="UnicastRTP/127.0.0.1:20000-0x7f",
    dialplan=Dialplan(app_name="Stasis", app_data="voice-agent"),
)
BRIDGE = Bridge("voice-agent.bridge.CA1", channels=(CALLER.id, MEDIA.id))
ASKED_NS = 1000


def call(**fields: object) -> Call:
    """A call that was up when Asterisk was asked."""
    about: dict[str, object] = {
        "call_sid": "CA1",
        "channel_id": CALLER.id,
        "started_ns": 1,
        "phase": Phase.UP,
        "up_ns": 2,
        "media": Presence.PRESENT,
        "bridge": Presence.PRESENT,
    }
    return Call(**(about | fields))  # type: ignore[arg-type]  # a test's shorthand


def compare(
    calls: list[Call], channels: list[Channel], bridges: list[Bridge], asked_ns: int = ASKED_NS
) -> Differences:
    """Compare calls with what Asterisk has."""
    return reconcile({call.call_sid: call for call in calls}, channels, bridges, NAMES, asked_ns)


# Events


@pytest.mark.parametrize(
    ("kind", "channel", "expected"),
    [
        ("StasisStart", CALLER, ev.CallerEntered(CALLER.id, "+15550100", "+15551234567")),
        ("StasisEnd", CALLER, ev.CallerLeft(CALLER.id)),
        ("ChannelHangupRequest", CALLER, ev.CallerLeft(CALLER.id)),
        ("ChannelDestroyed", CALLER, ev.CallerLeft(CALLER.id)),
        ("StasisStart", MEDIA, ev.MediaLegEntered("CA1")),
        ("StasisEnd", MEDIA, ev.MediaLegLeft("CA1")),
        ("ChannelDestroyed", MEDIA, ev.MediaLegLeft("CA1")),
        ("ChannelLeftBridge", CALLER, None),
        ("ChannelVarset", CALLER, None),
        ("PlaybackStarted", None, None),
    ],
)
def test_what_an_event_means(kind: str, channel: Channel | None, expected: Event | None) -> None:
    """Start and end of either leg matter, nothing else."""
    assert interpret(AriEvent(kind, channel=channel), NAMES) == expected


def test_a_digit() -> None:
    """A caller's key comes through with its digit."""
    event = AriEvent("ChannelDtmfReceived", channel=CALLER, digit="#", duration_ms=90)
    assert interpret(event, NAMES) == ev.DigitPressed(CALLER.id, "#")


@pytest.mark.parametrize("name", ["UnicastRTP/x", "Snoop/1-00", "Announcer/ARI-1", "Recorder/a"])
def test_internal_channels_are_no_calls(name: str) -> None:
    """Channels that an app makes for its own purposes enter it too; nobody calls."""
    event = AriEvent("StasisStart", channel=Channel(id="x", name=name))
    assert interpret(event, NAMES) is None


def test_names_of_two_apps_are_apart() -> None:
    """Apps whose names begin alike don't take each other's ids for their own."""
    other = CallNames("voice-agent-2")
    assert NAMES.call_of_media(other.media_id("CA1")) == ""
    assert other.call_of_bridge(NAMES.bridge_id("CA1")) == ""
    assert NAMES.call_of_bridge(NAMES.bridge_id("CA1")) == "CA1"
    assert NAMES.call_of_media(NAMES.bridge_id("CA1")) == ""


def test_new_ids_have_twilios_shape() -> None:
    """Two letters and 32 hex digits, a new one each time."""
    sids = {new_sid("CA") for _ in range(100)}
    assert len(sids) == 100
    assert all(len(sid) == 34 and int(sid.removeprefix("CA"), 16) >= 0 for sid in sids)


# Lists


def test_nothing_differs() -> None:
    """A call that Asterisk has as we do gives nothing to do."""
    assert compare([call()], [CALLER, MEDIA], [BRIDGE]) == Differences([], [], [])


def test_a_hang_up_was_missed() -> None:
    """A call whose caller is not there any more has ended."""
    found = compare([call()], [MEDIA], [BRIDGE])
    assert ev.CallerLeft(CALLER.id) in found.events
    assert not found.orphan_channels
    assert not found.orphan_bridges


def test_the_media_leg_is_gone() -> None:
    """A call that was up without its media leg has lost it."""
    found = compare([call()], [CALLER], [BRIDGE])
    assert found.events == [ev.MediaLegLeft("CA1")]


def test_the_bridge_is_gone() -> None:
    """A call that was up without its bridge has failed."""
    found = compare([call()], [CALLER, MEDIA], [])
    assert found.events == [ev.StepFailed("CA1", Part.BRIDGE, "it is gone")]


@pytest.mark.parametrize(("present", "missing"), [(MEDIA.id, Leg.CALLER), (CALLER.id, Leg.MEDIA)])
def test_a_leg_is_not_in_the_bridge(present: str, missing: Leg) -> None:
    """A leg that has fallen out of the bridge is named."""
    found = compare([call()], [CALLER, MEDIA], [Bridge(BRIDGE.id, channels=(present,))])
    assert found.events == [ev.LegMissing("CA1", missing)]


def test_callers_who_wait_are_served() -> None:
    """A caller in our app whom no call belongs to has entered; one who is served has not."""
    second = Channel("1700000000.2", "PJSIP/trunk-00000002", dialplan=CALLER.dialplan)
    found = compare([call()], [CALLER, MEDIA, second], [BRIDGE])
    assert found.events == [ev.CallerEntered("1700000000.2", "", "+15551234567")]


@pytest.mark.parametrize(
    "channel",
    [
        Channel("1.1", "PJSIP/a-1", dialplan=Dialplan(app_name="Stasis", app_data="other,x")),
        Channel("1.2", "PJSIP/a-2", dialplan=Dialplan(app_name="Stasis", app_data="voice-agent-2")),
        Channel("1.3", "PJSIP/a-3", dialplan=Dialplan(app_name="Wait", app_data="2")),
        Channel("1.4", "PJSIP/a-4"),
        Channel("1.5", "Snoop/1-00", dialplan=CALLER.dialplan),
        Channel("other.media.CA9", "UnicastRTP/x", dialplan=Dialplan(app_name="Stasis")),
    ],
)
def test_channels_of_others_are_left_alone(channel: Channel) -> None:
    """Channels of another app, of the dialplan, or internal ones are no callers and no orphans."""
    assert compare([], [channel], []) == Differences([], [], [])


def test_orphans_are_found() -> None:
    """What was made for a call that is not there is to be removed; other apps' things are not."""
    others = [Bridge("other.bridge.CA2"), Bridge("voice-agent-2.bridge.CA3"), Bridge("7f-1")]
    found = compare([], [MEDIA], [BRIDGE, *others])
    assert found == Differences([], [MEDIA.id], [BRIDGE.id])


def test_an_ending_call_has_no_orphans() -> None:
    """A call that is ending removes its own things, and has nothing to make up for."""
    ending = call(phase=Phase.ENDING, media=Presence.REMOVING, bridge=Presence.REMOVING)
    assert compare([ending], [MEDIA], [BRIDGE]) == Differences([], [], [])


def test_calls_that_came_after_the_question() -> None:
    """A caller who entered after Asterisk was asked is not missed in its answer."""
    later = call(started_ns=ASKED_NS, phase=Phase.SETTING_UP, up_ns=0)
    assert compare([later], [], []) == Differences([], [], [])


@pytest.mark.parametrize(
    "young", [call(phase=Phase.SETTING_UP, up_ns=0), call(up_ns=ASKED_NS)], ids=["set up", "up"]
)
def test_what_was_made_after_the_question(young: Call) -> None:
    """A call whose set-up was under way at the question may have what the answer lacks."""
    assert compare([young], [CALLER], []) == Differences([], [], [])
