"""What has become of the channels and sounds that somebody waits for.

Asterisk's events go in, and whoever waits for a change is woken: a script is written as it runs,
one step after the other.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from msgspec import Struct

from supervisor.ari.events import AriEvent, Channel

LEAVING = frozenset({"StasisEnd", "ChannelHangupRequest", "ChannelDestroyed"})
"""A channel's end shows in one or more of these, and not always in the same."""

KEYS_KEPT = 64


class Thing(Struct):
    """A channel, or a playback, which is only ever `gone`.

    `cause` is Q.850's, 0 if unknown. `entered`: it is in our app, and so can be bridged. `keys` are
    those pressed, in order.
    """

    is_sound: bool = False
    ringing: bool = False
    up: bool = False
    entered: bool = False
    gone: bool = False
    cause: int = 0
    keys: str = ""


class ChannelBoard:
    """The things that are followed, by id."""

    def __init__(self) -> None:
        self.things: dict[str, Thing] = {}
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def follow(self, thing_id: str) -> Thing:
        """Follow a channel from now on."""
        return self.things.setdefault(thing_id, Thing())

    def follow_sound(self, playback_id: str) -> Thing:
        """Follow a playback from now on: it is `gone` when it is over."""
        return self.things.setdefault(playback_id, Thing(is_sound=True))

    def sounds(self) -> list[str]:
        """The playbacks that aren't over, as far as we know."""
        return [thing_id for thing_id, thing in self.things.items() if thing.is_sound]

    def end_sound(self, playback_id: str) -> None:
        """A playback is over."""
        self._change(playback_id, partial(_leave, cause=0))

    def drop(self, thing_id: str) -> None:
        """Follow it no more; who still waits for it sees it gone."""
        if thing := self.things.pop(thing_id, None):
            thing.gone = True
            self.wake(thing_id)

    def note(self, event: AriEvent) -> None:
        """Take in an event."""
        if event.playback is not None and event.type == "PlaybackFinished":
            self._change(event.playback.id, partial(_leave, cause=0))
        if event.channel is None:
            return
        channel = event.channel
        match event.type:
            case "StasisStart":
                self._change(channel.id, partial(_enter, channel=channel))
            case "ChannelStateChange":
                self._change(channel.id, partial(_see, channel=channel))
            case "ChannelDtmfReceived":
                self._change(channel.id, partial(_press, digit=event.digit))
            case kind if kind in LEAVING:
                self._change(channel.id, partial(_leave, cause=event.cause or 0))

    def seen(self) -> set[str]:
        """The channels that exist, as far as we know: ask this before Asterisk."""
        return {
            thing_id
            for thing_id, thing in self.things.items()
            if not thing.gone and (thing.ringing or thing.up or thing.entered)
        }

    def settle(self, channels: Iterable[Channel], app: str, seen: set[str]) -> None:
        """Make up for missed events by Asterisk's list; what was `seen` and isn't there is gone."""
        present = {channel.id: channel for channel in channels}
        for thing_id in self.things:
            if channel := present.get(thing_id):
                plan = channel.dialplan
                inside = plan.app_name == "Stasis" and plan.app_data.split(",")[0] == app
                self._change(thing_id, partial(_enter if inside else _see, channel=channel))
            elif thing_id in seen:
                self._change(thing_id, partial(_leave, cause=0))

    async def until(
        self, condition: Callable[[], bool], ids: Iterable[str], seconds: float | None = None
    ) -> bool:
        """Wait until the condition holds, looked at whenever one of these things changes.

        Returns whether it holds: False when the time is over.
        """
        changed = asyncio.Event()
        watched = list(ids)
        for thing_id in watched:
            self._waiting.setdefault(thing_id, set()).add(changed)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while not condition():
                        await changed.wait()
                        changed.clear()
            return condition()
        finally:
            for thing_id in watched:
                self._waiting[thing_id].discard(changed)
                if not self._waiting[thing_id]:
                    del self._waiting[thing_id]

    def wake(self, thing_id: str) -> None:
        """Let those who wait look at their condition again: something else has changed."""
        for changed in self._waiting.get(thing_id, ()):
            changed.set()

    def _change(self, thing_id: str, change: Callable[[Thing], None]) -> None:
        if thing := self.things.get(thing_id):
            change(thing)
            self.wake(thing_id)


def _enter(thing: Thing, channel: Channel) -> None:
    thing.entered = True
    _see(thing, channel)


def _see(thing: Thing, channel: Channel) -> None:
    thing.up = thing.up or channel.state == "Up"
    thing.ringing = thing.ringing or channel.state in ("Ring", "Ringing")


def _leave(thing: Thing, cause: int) -> None:
    thing.gone = True
    thing.cause = thing.cause or cause


def _press(thing: Thing, digit: str) -> None:
    thing.keys = (thing.keys + digit)[-KEYS_KEPT:]
