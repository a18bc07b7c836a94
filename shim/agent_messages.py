"""Twilio's Media Streams messages: what we write, and what we read.

Pure. Shapes and types as in Twilio's "Media Streams - WebSocket Messages": numbers are strings,
except `sampleRate` and `channels`. A `media` message is written from a head that is built once
per stream; everything rarer goes through msgspec.
"""

from binascii import b2a_base64
from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from shim.control import CallSpec
from shim.playout import PassedMark

MAX_DIGITS: Final = 100
"""Asterisk takes 0.25 s for each, and the channel answers nothing else meanwhile."""
CONNECTED: Final = b'{"event":"connected","protocol":"Call","version":"1.0.0"}'


class MediaPayload(msgspec.Struct, gc=False):
    """`payload` is µ-law audio; msgspec decodes its base64."""

    payload: bytes


class Media(msgspec.Struct, tag_field="event", tag="media", gc=False):
    """Audio to play to the caller, of any length."""

    media: MediaPayload
    streamSid: str = ""


class MarkName(msgspec.Struct, frozen=True):
    """The label that comes back."""

    name: str = ""


class Mark(msgspec.Struct, tag_field="event", tag="mark"):
    """Asks to be told when the audio before it is gone. One public bot omits `mark`."""

    mark: MarkName = MarkName()
    streamSid: str = ""


class Clear(msgspec.Struct, tag_field="event", tag="clear"):
    """Asks to throw away the audio that waits."""

    streamSid: str = ""


class DtmfDigits(msgspec.Struct):
    """One or more of 0-9, *, #, A-D."""

    digit: str


class Dtmf(msgspec.Struct, tag_field="event", tag="dtmf"):
    """Asks to send digits to the caller. Twilio has no such message; it is ours."""

    dtmf: DtmfDigits
    streamSid: str = ""


AgentMessage: TypeAlias = Media | Mark | Clear | Dtmf


class BadMessage(ValueError):
    """A message of the voice server that is dropped.

    `kind` is one of "json", "event", "field", "base64", "stream_sid", "digits".
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


read: Callable[[bytes | memoryview], AgentMessage] = msgspec.json.Decoder(AgentMessage).decode
"""Reads the shape of a message alone, for the way of each frame; raises one of `UNREADABLE`."""
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_events = frozenset({"media", "mark", "clear", "dtmf"})
_digits = frozenset("0123456789*#ABCD")


def decode(data: bytes | memoryview, stream_sid: str) -> AgentMessage:
    """Decode one text message of the voice server.

    A missing `streamSid` is accepted, as several bots leave it out; a wrong one is not.

    Raises:
        BadMessage: it is not one of the messages that Twilio knows, or not for this stream.
    """
    try:
        message = read(data)
    except UNREADABLE as error:
        raise explain(data, error) from error
    check(message, stream_sid)
    return message


def check(message: AgentMessage, stream_sid: str) -> None:
    """Check what its shape doesn't show; raises BadMessage."""
    if message.streamSid != stream_sid and message.streamSid:
        raise BadMessage("stream_sid", "the streamSid is not this stream's")
    if type(message) is Dtmf and not _are_digits(message.dtmf.digit):
        raise BadMessage("digits", f"dtmf.digit must be 1 to {MAX_DIGITS} of 0-9, *, #, A-D")


def _are_digits(text: str) -> bool:
    return 0 < len(text) <= MAX_DIGITS and _digits.issuperset(text)


def explain(data: bytes | memoryview, error: Exception) -> BadMessage:
    """Find out in which way a message is bad. Not the way of good ones: it may be slow."""
    try:
        loose = msgspec.json.decode(data)
    except UNREADABLE:
        return BadMessage("json", "no JSON")
    event = loose.get("event") if isinstance(loose, dict) else None
    if not isinstance(event, str) or event not in _events:
        return BadMessage("event", "no event that is known here")
    if "base64" in str(error):
        return BadMessage("base64", "media.payload is no base64")
    return BadMessage("field", str(error))


class MessageWriter:
    """Writes the messages of one stream, numbered as Twilio numbers them.

    `sequenceNumber` counts all messages from `start` ("1") on, `chunk` the media messages.
    A resumed stream begins anew with both, as every new WebSocket does.
    """

    __slots__ = ("_call", "_chunk", "_head", "_mid", "_sequence")

    def __init__(self, call: CallSpec) -> None:
        self._call = call
        self._sequence = 0
        self._chunk = 0
        self._head = b'{"event":"media","sequenceNumber":"'
        self._mid = (
            b'","streamSid":"%b","media":{"track":"inbound","chunk":"' % call.stream_sid.encode()
        )

    def start(self, *, resumed: bool) -> bytes:
        """The `start` message; the numbering begins with it."""
        self._sequence = 1
        self._chunk = 0
        call = self._call
        parameters = {"source": "asterisk-shim", "format": "ulaw", **call.custom_parameters}
        if resumed:
            parameters["resumed"] = "1"
        return msgspec.json.encode(
            {
                "event": "start",
                "sequenceNumber": "1",
                "streamSid": call.stream_sid,
                "start": {
                    "accountSid": call.account_sid,
                    "streamSid": call.stream_sid,
                    "callSid": call.call_sid,
                    "tracks": ["inbound"],
                    "mediaFormat": {
                        "encoding": "audio/x-mulaw",
                        "sampleRate": 8000,
                        "channels": 1,
                    },
                    "customParameters": parameters,
                },
            }
        )

    def media(self, payload: bytes, timestamp_ms: int) -> bytes:
        """A `media` message: the caller's audio, and the ms since the stream's start."""
        self._sequence = sequence = self._sequence + 1
        self._chunk = chunk = self._chunk + 1
        return b'%b%d%b%d","timestamp":"%d","payload":"%b"}}' % (
            self._head,
            sequence,
            self._mid,
            chunk,
            timestamp_ms,
            b2a_base64(payload, newline=False),
        )

    def mark(self, mark: PassedMark) -> bytes:
        """The answer to a mark; `playedMs` and `clearedMs` are ours, clients ignore them."""
        return self._numbered(
            "mark",
            {
                "mark": {
                    "name": mark.name,
                    "playedMs": str(mark.played_ms),
                    "clearedMs": str(mark.cleared_ms),
                }
            },
        )

    def dtmf(self, digit: str) -> bytes:
        """A key that the caller pressed."""
        return self._numbered("dtmf", {"dtmf": {"track": "inbound_track", "digit": digit}})

    def stop(self) -> bytes:
        """The last message of a stream."""
        call = self._call
        return self._numbered(
            "stop", {"stop": {"accountSid": call.account_sid, "callSid": call.call_sid}}
        )

    def _numbered(self, event: str, content: dict[str, object]) -> bytes:
        self._sequence += 1
        return msgspec.json.encode(
            {
                "event": event,
                "sequenceNumber": str(self._sequence),
                "streamSid": self._call.stream_sid,
                **content,
            }
        )
