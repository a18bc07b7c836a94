"""What Asterisk's events and lists mean for our calls. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from supervisor.ari.events import AriEvent, Bridge, Channel
from supervisor.calls.events import (
    CallerEntered,
    CallerLeft,
    DigitPressed,
    Event,
    LegMissing,
    MediaLegEntered,
    MediaLegLeft,
    StepFailed,
)
from supervisor.calls.names import CallNames
from supervisor.calls.state import Call, Leg, Part, Phase

INTERNAL_CHANNELS: Final = ("UnicastRTP/", "Snoop/", "Announcer/", "Recorder/")
"""Channels that Asterisk makes for an app's own purposes enter the app too; nobody calls."""
LEAVING: Final = frozenset({"StasisEnd", "ChannelHangupRequest", "ChannelDestroyed"})
"""A caller's end shows in one or more of these, and not always in the same."""


def interpret(event: AriEvent, names: CallNames) -> Event | None:
    """Turn an ARI event into one of a call; None if it says nothing that matters."""
    channel = event.channel
    if channel is None:
        return None
    call_sid = names.call_of_media(channel.id)
    if event.type == "StasisStart":
        if names.call_of_out(channel.id):
            return None  # a call that we place: `channel_board` follows it
        return MediaLegEntered(call_sid) if call_sid else _entered(channel)
    if event.type in LEAVING:
        return MediaLegLeft(call_sid) if call_sid else CallerLeft(channel.id)
    if event.type == "ChannelDtmfReceived":
        return DigitPressed(channel.id, event.digit)
    return None


class Differences(Struct, frozen=True):
    """What was missed while nobody listened: events to make up for, and orphans to remove."""

    events: list[Event]
    orphan_channels: list[str]
    orphan_bridges: list[str]


def reconcile(
    calls: Mapping[str, Call],
    channels: Iterable[Channel],
    bridges: Iterable[Bridge],
    names: CallNames,
    asked_ns: int,
) -> Differences:
    """Compare our calls with what Asterisk has.

    Args:
        asked_ns: when Asterisk was asked; calls that came later are left alone.
    """
    present = {channel.id: channel for channel in channels}
    older = [
        call
        for call in calls.values()
        if call.started_ns < asked_ns and call.phase is not Phase.ENDING
    ]
    events: list[Event] = [
        CallerLeft(call.channel_id) for call in older if call.channel_id not in present
    ]
    legs_of = {bridge.id: set(bridge.channels) for bridge in bridges}
    for call in older:
        # In the set-up what the list lacks may have been made since: the set-up notices itself.
        if call.phase is Phase.UP and call.up_ns < asked_ns:
            if names.media_id(call.call_sid) not in present:
                events.append(MediaLegLeft(call.call_sid))
            events += _bridge_events(call, names, legs_of)
    known = {call.channel_id for call in calls.values()}
    events += [
        entered
        for channel in present.values()
        if _waits_in(channel, names.app) and channel.id not in known
        if not names.call_of_media(channel.id) and not names.call_of_out(channel.id)
        if (entered := _entered(channel))
    ]
    legs = {channel_id: names.call_of_media(channel_id) for channel_id in present}
    owners = {bridge_id: names.call_of_bridge(bridge_id) for bridge_id in legs_of}
    return Differences(events, _orphans(legs, calls), _orphans(owners, calls))


def _bridge_events(
    call: Call, names: CallNames, legs_of: Mapping[str, set[str]]
) -> Iterable[Event]:
    """What is wrong with the bridge of a call that is up."""
    present = legs_of.get(names.bridge_id(call.call_sid))
    if present is None:
        return [StepFailed(call.call_sid, Part.BRIDGE, "it is gone")]
    legs = {Leg.CALLER: call.channel_id, Leg.MEDIA: names.media_id(call.call_sid)}
    return [
        LegMissing(call.call_sid, leg) for leg, channel in legs.items() if channel not in present
    ]


def _orphans(owners: Mapping[str, str], calls: Mapping[str, Call]) -> list[str]:
    """Things that were made for a call which is not there any more."""
    return [thing for thing, call_sid in owners.items() if call_sid and call_sid not in calls]


def _entered(channel: Channel) -> CallerEntered | None:
    if channel.name.startswith(INTERNAL_CHANNELS):
        return None
    return CallerEntered(channel.id, channel.caller.number, channel.dialplan.exten)


def _waits_in(channel: Channel, app: str) -> bool:
    """Whether the channel is in the app (its dialplan application is Stasis, with our name)."""
    plan = channel.dialplan
    return plan.app_name == "Stasis" and plan.app_data.split(",")[0] == app
