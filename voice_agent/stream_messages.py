"""Twilio's Media Streams messages as the voice server reads and writes them.

Pure. Shapes as in Twilio's "Media Streams - WebSocket Messages": JSON text with the kind in
`event`. Only fields that are used here are named; msgspec skips the others, and turns base64
payloads into bytes and back. `media` and `mark` have the same shape in both directions.
"""

from typing import Annotated, Literal, TypeAlias, get_args

import msgspec

_Sid = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]

_Ms = Annotated[str, msgspec.Meta(pattern="^[0-9]{1,12}$")]
"""Numbers are strings in Media Streams."""


class MediaFormat(msgspec.Struct, frozen=True, rename="camel"):
    """What the audio is: Twilio knows no other."""

    encoding: Literal["audio/x-mulaw"] = "audio/x-mulaw"
    sample_rate: Literal[8000] = 8000
    channels: Literal[1] = 1


class StartBody(msgspec.Struct, frozen=True, rename="camel"):
    """Which call this is. `custom_parameters` come from the `<Parameter>`s of the TwiML."""

    stream_sid: _Sid
    call_sid: _Sid
    account_sid: str = ""
    media_format: MediaFormat = MediaFormat()
    custom_parameters: dict[str, str] = {}


# gc=False: these come 50 times a second and call, and hold nothing that could form a cycle.
class MediaBody(msgspec.Struct, frozen=True, gc=False):
    """µ-law audio: 20 ms from the caller, any length to the caller."""

    payload: bytes


class DtmfBody(msgspec.Struct, frozen=True):
    """A key of the phone."""

    digit: Annotated[str, msgspec.Meta(pattern="^[0-9*#A-D]$")]


class DigitsBody(msgspec.Struct, frozen=True):
    """Keys to send to the caller's side."""

    digit: str


class MarkBody(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A label. The times are an extension of the open telephony stack: what became of the audio
    since the mark before."""

    name: str
    played_ms: _Ms | None = None
    cleared_ms: _Ms | None = None


class _Message(msgspec.Struct, frozen=True, rename="camel", tag_field="event"):
    """What all messages have in common: the tag of each is its `event`."""


class ConnectedMessage(_Message, frozen=True, tag="connected"):
    """The first message; says nothing about the call."""


class StartMessage(_Message, frozen=True, tag="start"):
    """The stream begins."""

    start: StartBody


class MediaMessage(_Message, frozen=True, tag="media", gc=False):
    """Audio, from the caller or to the caller."""

    stream_sid: str
    media: MediaBody


class DtmfMessage(_Message, frozen=True, tag="dtmf"):
    """The caller pressed a key."""

    stream_sid: str
    dtmf: DtmfBody


class SendDigitsMessage(_Message, frozen=True, tag="dtmf"):
    """To the call: send keys to the caller's side."""

    stream_sid: str
    dtmf: DigitsBody


class MarkMessage(_Message, frozen=True, tag="mark"):
    """To the call: say when the audio before this is over. From the call: it is."""

    stream_sid: str
    mark: MarkBody


class StopMessage(_Message, frozen=True, tag="stop"):
    """The stream is over."""

    stream_sid: str


class ClearMessage(_Message, frozen=True, tag="clear"):
    """To the call: throw away the audio that waits. Its marks come back at once."""

    stream_sid: str


IncomingMessage: TypeAlias = (
    MediaMessage | MarkMessage | DtmfMessage | ConnectedMessage | StartMessage | StopMessage
)
OutgoingMessage: TypeAlias = MediaMessage | MarkMessage | ClearMessage | SendDigitsMessage


class BadMessageError(ValueError):
    """A message that can't be used. The text never holds what the caller said or typed.

    `kind` is one of "binary", "json", "event", "field", "stream_sid".
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


_decoder: msgspec.json.Decoder[IncomingMessage] = msgspec.json.Decoder(IncomingMessage)
_encoder = msgspec.json.Encoder()
_events = {str(kind.__struct_config__.tag) for kind in get_args(IncomingMessage)}


def decode(data: str | bytes) -> IncomingMessage:
    """Decode one WebSocket message: str is a text message, bytes a binary one.

    Raises:
        BadMessageError: it is not one of the messages above.
    """
    if isinstance(data, bytes):
        raise BadMessageError("binary", "a binary message; Media Streams has text messages only")
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _explain(data, error) from error


def encode(message: OutgoingMessage) -> bytes:
    """The JSON text of a message to the call."""
    return _encoder.encode(message)


def _explain(data: str, error: Exception) -> BadMessageError:
    """Find out in which way a message is bad. For bad ones only: it decodes once more."""
    try:
        loose = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as no_json:
        return BadMessageError("json", f"no JSON: {no_json}")
    event = loose.get("event") if isinstance(loose, dict) else None
    if isinstance(event, str) and event in _events:
        return BadMessageError("field", str(error))
    return BadMessageError("event", f"`event` is not one of {', '.join(sorted(_events))}")
