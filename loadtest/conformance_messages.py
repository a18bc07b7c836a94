"""Twilio's messages to a bot, exactly as its documentation shows them. Pure.

Source: Twilio, "Media Streams - WebSocket Messages", section "WebSocket messages from Twilio". The
worker writes its messages by itself: what judges bots must not share its mistakes.
"""

from __future__ import annotations

import json
import secrets
from base64 import b64encode

from msgspec import Struct

PTIME_MS = 20


class CallSids(Struct, frozen=True):
    """A call's ids: two letters and 32 hex digits each."""

    account: str
    call: str
    stream: str


def new_sids() -> CallSids:
    """Ids that no call had before."""
    account, call, stream = (prefix + secrets.token_hex(16) for prefix in ("AC", "CA", "MZ"))
    return CallSids(account, call, stream)


class TwilioMessages:
    """Writes the messages of one stream, numbered as Twilio numbers them.

    `extras` are fields that go into every message from then on: Twilio may add some at any time,
    and so may this stack.
    """

    def __init__(self, sids: CallSids) -> None:
        self.extras: dict[str, str] = {}
        self._sids = sids
        self._sequence = 0
        self._chunk = 0
        self._timestamp_ms = 0

    def connected(self) -> str:
        """The first message."""
        return json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"})

    def start(self, parameters: dict[str, str]) -> str:
        """What the stream is; it has the sequence number 1."""
        sids = self._sids
        start = {
            "accountSid": sids.account,
            "streamSid": sids.stream,
            "callSid": sids.call,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": parameters,
        }
        return self._numbered("start", {"start": start})

    def media(self, frame: bytes) -> str:
        """The next 20 ms of the caller."""
        self._chunk += 1
        media = {
            "track": "inbound",
            "chunk": str(self._chunk),
            "timestamp": str(self._timestamp_ms),
            "payload": b64encode(frame).decode(),
        }
        self._timestamp_ms += PTIME_MS
        return self._numbered("media", {"media": {**media, **self.extras}})

    def lose_media(self) -> None:
        """20 ms of the caller are lost on their way: they show as a gap in the timestamps."""
        self._timestamp_ms += PTIME_MS

    def mark(self, name: str) -> str:
        """The bot's mark comes back."""
        return self._numbered("mark", {"mark": {"name": name, **self.extras}})

    def dtmf(self, digit: str) -> str:
        """The caller pressed a key."""
        return self._numbered("dtmf", {"dtmf": {"track": "inbound_track", "digit": digit}})

    def stop(self) -> str:
        """The last message."""
        stop = {"accountSid": self._sids.account, "callSid": self._sids.call}
        return self._numbered("stop", {"stop": stop})

    def _numbered(self, event: str, content: dict[str, object]) -> str:
        self._sequence += 1
        return json.dumps(
            {
                "event": event,
                "sequenceNumber": str(self._sequence),
                "streamSid": self._sids.stream,
                **content,
                **self.extras,
            }
        )
