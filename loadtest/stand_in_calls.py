"""Channels, bridges and the Stasis application, and the events that Asterisk 22 tells of them.

The core of the stand-in: it knows nothing of HTTP or SIP. Shapes and order of the events were
compared with a real Asterisk 22.10.1; the models are those of its `rest-api/api-docs/events.json`,
`channels.json` and `bridges.json`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from loadtest.stand_in_rtp import Leg

Json = Mapping[str, object]

NORMAL_CLEARING = 16  # ITU-T Q.850, as are all causes here
CAUSE_TEXTS = {
    1: "Unallocated (unassigned) number",
    NORMAL_CLEARING: "Normal Clearing",
    17: "User busy",
    18: "No user responding",
    19: "User alerting, no answer",
    21: "Call Rejected",
    34: "Circuit/channel congestion",
}
SOFT_HANGUP_CAUSE = (
    32  # what an ARI hang-up shows in ChannelHangupRequest (AST_SOFTHANGUP_EXPLICIT)
)


class EventSink(Protocol):
    """Where events go: the applications that are connected."""

    def listening(self, app: str) -> bool: ...
    def send(self, app: str, event: Json) -> None: ...


class Line(Protocol):
    """What a channel speaks through: a SIP caller or an external media socket."""

    leg: Leg

    def resume(self) -> None:
        """The application gave the channel back: the dialplan goes on."""

    def end(self, cause: int) -> None:
        """The channel is gone: tell the far end if it doesn't know, and close the leg."""


def iso_now() -> str:
    """Now, as Asterisk writes it: 2026-11-24T08:25:05.108+0000."""
    return f"{datetime.now(UTC).isoformat(timespec='milliseconds')[:-6]}+0000"


@dataclass(eq=False, slots=True)
class Channel:
    id: str
    name: str
    line: Line
    dialplan: Json
    state: str = "Down"
    protocol_id: str = ""
    caller: Json = field(default_factory=lambda: {"name": "", "number": ""})
    connected: Json = field(default_factory=lambda: {"name": "", "number": ""})
    variables: dict[str, str] = field(default_factory=dict)
    created_at: str = field(default_factory=iso_now)
    creator: str = ""  # the application that had this channel made
    listener: str = ""  # the application that gets this channel's events
    in_app: bool = False
    before_app: Json = field(default_factory=dict)  # the dialplan's place to go back to
    bridge: Bridge | None = None

    def to_json(self) -> Json:
        return {
            "id": self.id,
            "name": self.name,
            "state": self.state,
            "protocol_id": self.protocol_id,
            "caller": self.caller,
            "connected": self.connected,
            "accountcode": "",
            "dialplan": self.dialplan,
            "creationtime": self.created_at,
            "language": "en",
        }


@dataclass(eq=False, slots=True)
class Bridge:
    id: str
    name: str
    type: str = "mixing"
    channels: list[Channel] = field(default_factory=list)
    created_at: str = field(default_factory=iso_now)
    # Applications get a bridge's events while a channel of theirs has not been removed from it;
    # one that hung up in it still counts (res/stasis/control.c).
    listeners: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> Json:
        return {
            "id": self.id,
            "technology": "simple_bridge",
            "bridge_type": self.type,
            "bridge_class": "stasis",
            "creator": "Stasis",
            "name": self.name,
            "channels": [channel.id for channel in self.channels],
            "creationtime": self.created_at,
            "video_mode": "talker",
        }


class Exchange:
    """All channels and bridges; every change of them goes through here and tells its event."""

    def __init__(self, events: EventSink, asterisk_id: str) -> None:
        self.channels: dict[str, Channel] = {}
        self.bridges: dict[str, Bridge] = {}
        self._events = events
        self._asterisk_id = asterisk_id

    def add_channel(self, channel: Channel) -> None:
        self.channels[channel.id] = channel

    def answered(self, channel: Channel) -> None:
        channel.state = "Up"
        self._tell(channel, "ChannelStateChange")

    def enter_app(self, channel: Channel, app: str, args: list[str]) -> bool:
        """Begin Stasis(app, args); False when the application isn't connected."""
        if not self._events.listening(app):
            return False
        data = ",".join([app, *args])
        channel.before_app = channel.dialplan
        channel.dialplan = {**channel.dialplan, "app_name": "Stasis", "app_data": data}
        channel.listener, channel.in_app = app, True
        self._tell(channel, "StasisStart", args=args)
        return True

    def give_back(self, channel: Channel) -> None:
        """What `continue` does: out of the bridge and the application, on in the dialplan."""
        self._leave_app(channel)
        channel.line.resume()

    def hang_up(
        self, channel: Channel, cause: int = NORMAL_CLEARING, request: Json | None = None
    ) -> None:
        """End a channel; `request` is what ChannelHangupRequest says besides."""
        del self.channels[channel.id]
        self._tell(channel, "ChannelHangupRequest", **(request or {}))
        self._leave_app(channel)
        if channel.listener:
            text = CAUSE_TEXTS.get(cause, "Unknown")
            self._tell(channel, "ChannelDestroyed", cause=cause, cause_txt=text)
        channel.line.end(cause)

    def digit(self, channel: Channel, digit: str, duration_ms: int) -> None:
        self._tell(channel, "ChannelDtmfReceived", digit=digit, duration_ms=duration_ms)

    def set_variable(self, channel: Channel, variable: str, value: str) -> None:
        channel.variables[variable] = value
        self._tell(channel, "ChannelVarset", variable=variable, value=value)

    def dial(self, channel: Channel, dialled: str, status: str) -> None:
        """The Dial events around an external media channel's start name it as `peer`."""
        about = {"dialstatus": status, "forward": "", "dialstring": dialled}
        self._send(channel.listener, "Dial", {**about, "peer": channel.to_json()})

    def add_bridge(self, bridge: Bridge) -> None:
        """No event: applications hear of a bridge once a channel of theirs has entered it."""
        self.bridges[bridge.id] = bridge

    def enter_bridge(self, bridge: Bridge, channel: Channel) -> None:
        """A channel that is in a bridge already, this one too, leaves that first."""
        self.leave_bridge(channel)
        bridge.channels.append(channel)
        bridge.listeners[channel.listener] += 1
        channel.bridge = bridge
        self._connect_legs(bridge)
        self._tell_bridge(bridge, channel, "ChannelEnteredBridge")
        self._connect_lines(bridge)

    def leave_bridge(self, channel: Channel) -> None:
        """By request: its application hears no more of that bridge on this channel's account."""
        bridge = channel.bridge
        if bridge is not None:
            self._drop_from_bridge(channel)
            bridge.listeners[channel.listener] -= 1

    def destroy_bridge(self, bridge: Bridge) -> None:
        """Its channels stay in the application."""
        for channel in tuple(bridge.channels):
            self._drop_from_bridge(channel)
        del self.bridges[bridge.id]
        for app in +bridge.listeners:
            self._send(app, "BridgeDestroyed", {"bridge": bridge.to_json()})

    def _drop_from_bridge(self, channel: Channel) -> None:
        bridge = channel.bridge
        if bridge is None:
            return
        bridge.channels.remove(channel)
        channel.bridge = channel.line.leg.other = None
        self._connect_legs(bridge)
        self._tell_bridge(bridge, channel, "ChannelLeftBridge")

    def _connect_legs(self, bridge: Bridge) -> None:
        legs = [channel.line.leg for channel in bridge.channels]
        for leg in legs:
            leg.other = None
        if len(legs) == 2:  # more would need mixing, which the stand-in doesn't do
            legs[0].other, legs[1].other = legs[1], legs[0]

    def _connect_lines(self, bridge: Bridge) -> None:
        """A channel shows the number that it is connected to, and goes on showing it."""
        if len(bridge.channels) == 2:
            for channel, other in zip(bridge.channels, bridge.channels[::-1], strict=True):
                if other.caller["number"]:
                    channel.connected = other.caller

    def _leave_app(self, channel: Channel) -> None:
        self._drop_from_bridge(channel)
        if not channel.in_app:
            return
        self._tell(channel, "StasisEnd")
        channel.in_app = False
        channel.dialplan = channel.before_app
        # Whoever had the channel made also hears of its end; for a caller the subscription ends
        # with StasisEnd.
        channel.listener = channel.creator

    def _tell_bridge(self, bridge: Bridge, channel: Channel, kind: str) -> None:
        self._tell(channel, kind, bridge=bridge.to_json())

    def _tell(self, channel: Channel, kind: str, **about: object) -> None:
        if channel.listener:
            self._send(channel.listener, kind, {**about, "channel": channel.to_json()})

    def _send(self, app: str, kind: str, about: Json) -> None:
        head = {"type": kind, "timestamp": iso_now()}
        tail = {"asterisk_id": self._asterisk_id, "application": app}
        self._events.send(app, {**head, **about, **tail})
