"""ARI's REST calls for what a phone call does besides its stream: dialing, sounds, hold, mute.

Paths and parameters are those of channels.json, bridges.json and playbacks.json in Asterisk 22's
rest-api/api-docs.
"""

from contextlib import suppress
from typing import Literal

from msgspec import Struct

from supervisor.ari.events import AriAbsent, Channel, ChannelNotInStasis
from supervisor.ari.rest import AriRest, Request, path

Switch = Literal["moh", "ring", "mute", "silence"]


class Originate(Struct, frozen=True):
    """A call to be placed: to `endpoint`, as PJSIP/+15551234567@trunk."""

    channel_id: str
    endpoint: str
    caller_id: str
    timeout_s: int


class AriCalls(AriRest):
    """More REST calls; they raise what those of AriRest do."""

    async def originate(self, order: Originate) -> Channel:
        """Place a call; once answered, its channel enters our app: `POST /channels`.

        The app hears of the channel from here on (ChannelStateChange, ChannelDestroyed with the
        Q.850 cause), long before its StasisStart. Without an answer it may exist all the same.
        """
        query = {
            "endpoint": order.endpoint,
            "app": self._settings.app,
            "channelId": order.channel_id,
            "callerId": order.caller_id,
            "timeout": str(order.timeout_s),
            "formats": "ulaw",
        }
        return await self._ask(Channel, Request("originate", "POST", "/channels", query))

    async def play(self, channel_id: str, playback_id: str, media: str) -> None:
        """Play `sound:...` to a channel: `POST /channels/{id}/play/{playbackId}`.

        Its end is the event PlaybackFinished.
        """
        target = path("channels", channel_id, "play", playback_id)
        await self._do(Request("play", "POST", target, {"media": media}))

    async def stop_playback(self, playback_id: str) -> None:
        """Stop a sound; one that is over counts as done: `DELETE /playbacks/{id}`."""
        with suppress(AriAbsent):
            await self._do(Request("stop_playback", "DELETE", path("playbacks", playback_id)))

    async def is_playing(self, playback_id: str) -> bool:
        """Whether a sound isn't over yet: `GET /playbacks/{id}`."""
        with suppress(AriAbsent):
            await self._do(Request("get_playback", "GET", path("playbacks", playback_id)))
            return True
        return False

    async def switch(self, channel_id: str, what: Switch, on: bool) -> None:
        """Begin or end one of the things that a channel can have for a while.

        `POST` and `DELETE /channels/{id}/moh` (music), `/ring` (the ringing tone), `/silence`, and
        `/mute` with direction `in`: Asterisk drops what the channel says, and sends nothing for it.
        """
        query = {"direction": "in"} if what == "mute" else {}
        method = "POST" if on else "DELETE"
        target = path("channels", channel_id, what)
        await self._do(Request(f"{what}_{on}", method, target, query, repeatable=True))

    async def remove_from_bridge(self, bridge_id: str, channel_id: str) -> None:
        """Take a channel out, if it is in: `POST /bridges/{id}/removeChannel`."""
        target = path("bridges", bridge_id, "removeChannel")
        with suppress(AriAbsent, ChannelNotInStasis):  # 422: it is in no bridge, or left
            await self._do(Request("remove", "POST", target, {"channel": channel_id}))
