"""The ids that we choose for what we create in Asterisk, and Twilio's ids of a call. Pure.

Ids of our own choosing can be cleaned up without having seen the answer that would name them,
and tell what belongs to which call even after a restart. The app's name is part of them, so
that two apps on one Asterisk never take each other's for orphans.
"""

import secrets

from msgspec import Struct


class CallNames(Struct, frozen=True):
    """Names for the calls of one Stasis app."""

    app: str

    def bridge_id(self, call_sid: str) -> str:
        """The id of a call's bridge."""
        return f"{self.app}.bridge.{call_sid}"

    def media_id(self, call_sid: str) -> str:
        """The id of a call's ExternalMedia channel."""
        return f"{self.app}.media.{call_sid}"

    def call_of_bridge(self, bridge_id: str) -> str:
        """The call_sid that a bridge was made for; empty if it is none of ours."""
        prefix = self.bridge_id("")
        return bridge_id.removeprefix(prefix) if bridge_id.startswith(prefix) else ""

    def call_of_media(self, channel_id: str) -> str:
        """The call_sid that an ExternalMedia channel was made for; empty if it is none of ours."""
        prefix = self.media_id("")
        return channel_id.removeprefix(prefix) if channel_id.startswith(prefix) else ""

    def out_id(self, call_sid: str) -> str:
        """The id of the channel of a call that we place."""
        return f"{self.app}.out.{call_sid}"

    def call_of_out(self, channel_id: str) -> str:
        """The call_sid that a channel was placed for; empty if it is none of ours."""
        prefix = self.out_id("")
        return channel_id.removeprefix(prefix) if channel_id.startswith(prefix) else ""

    def dial_bridge_id(self, leg_sid: str) -> str:
        """The id of the bridge that joins a caller with the dialed call `leg_sid`."""
        return f"{self.app}.dial.{leg_sid}"

    def call_of_dial_bridge(self, bridge_id: str) -> str:
        """The dialed call that a bridge was made for; empty if it is none of ours."""
        prefix = self.dial_bridge_id("")
        return bridge_id.removeprefix(prefix) if bridge_id.startswith(prefix) else ""

    def playback_id(self, call_sid: str, number: int) -> str:
        """The id of a call's playback number so and so."""
        return f"{self.app}.play.{call_sid}.{number}"


def new_sid(prefix: str) -> str:
    """A random id of Twilio's shape: two letters and 32 hex digits.

    All 128 bits are random, as samplers of traces expect: a call's trace has the same id.
    """
    return prefix + secrets.token_hex(16)
