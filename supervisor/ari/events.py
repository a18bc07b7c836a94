"""What Asterisk says over ARI, as typed values: its events, its answers, its refusals. No I/O.

The source of every name here is Asterisk's ARI reference (rest-api/api-docs/*.json of Asterisk 22,
published as "Asterisk REST Interface" on docs.asterisk.org). Only what a call needs is decoded.
Unknown fields and unknown event types are let through, because Asterisk adds some in every release.
"""

from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct, field

T = TypeVar("T")

REPLACED: Final = "ApplicationReplaced"
"""Type of the event that says: a newer connection has taken the app over, nothing more follows."""
_MESSAGE_CHARS: Final = 300


class CallerId(Struct, frozen=True):
    """A party's name and number, both "" when unknown (ARI model `CallerID`)."""

    name: str = ""
    number: str = ""


class Dialplan(Struct, frozen=True):
    """Where in the dialplan a channel is (ARI model `DialplanCEP`).

    While a channel is in a Stasis app, `app_name` is "Stasis" and `app_data` is the app's name and
    arguments, separated by commas.
    """

    context: str = ""
    exten: str = ""
    priority: int = 0
    app_name: str = ""
    app_data: str = ""


class Channel(Struct, frozen=True):
    """One leg of a call (ARI model `Channel`). Its id and name are fixed, the rest is a snapshot.

    `channelvars` is filled in the answer that creates an external media channel, and elsewhere only
    as far as ari.conf's `channelvars` asks for it.
    """

    id: str
    name: str = ""
    state: str = ""
    caller: CallerId = CallerId()
    connected: CallerId = CallerId()
    accountcode: str = ""
    dialplan: Dialplan = Dialplan()
    creationtime: str = ""
    channelvars: dict[str, str] = field(default_factory=dict)


class Bridge(Struct, frozen=True):
    """What joins the legs of a call, with the ids of its channels (ARI model `Bridge`)."""

    id: str
    technology: str = ""
    bridge_type: str = ""
    name: str = ""
    creationtime: str = ""
    channels: tuple[str, ...] = ()


class SystemInfo(Struct, frozen=True):
    """Asterisk's version, as "22.10.1", and its id (ARI model `SystemInfo`)."""

    version: str = ""
    entity_id: str = ""


class ConfigInfo(Struct, frozen=True):
    """Asterisk's limits, None where none is set (ARI model `ConfigInfo`)."""

    name: str = ""
    max_channels: int | None = None
    max_open_files: int | None = None


class StatusInfo(Struct, frozen=True):
    """When Asterisk was started and last reloaded, ISO 8601 (ARI model `StatusInfo`)."""

    startup_time: str = ""
    last_reload_time: str = ""


class AsteriskInfo(Struct, frozen=True):
    """The answer of `GET /asterisk/info` (ARI model `AsteriskInfo`)."""

    system: SystemInfo = SystemInfo()
    config: ConfigInfo = ConfigInfo()
    status: StatusInfo = StatusInfo()


class Variable(Struct, frozen=True):
    """The answer of `GET /channels/{id}/variable` (ARI model `Variable`)."""

    value: str


class Playback(Struct, frozen=True):
    """A sound that is played to a channel (ARI model `Playback`)."""

    id: str
    state: str = ""


class AriEvent(Struct, frozen=True):
    """Any event of the WebSocket `/ari/events`; fields that its type does not have are unset.

    `timestamp` is Asterisk's wall clock, ISO 8601. `args` belongs to StasisStart; `bridge` to the
    Bridge* events, ChannelEnteredBridge and ChannelLeftBridge; `digit` and `duration_ms` to
    ChannelDtmfReceived; `cause` (Q.850) to ChannelDestroyed and ChannelHangupRequest, which lacks
    it when the caller hung up; `playback` to the Playback* events. (ARI models `Message`, `Event`
    and the event's own.)
    """

    type: str
    application: str = ""
    timestamp: str = ""
    args: tuple[str, ...] = ()
    channel: Channel | None = None
    bridge: Bridge | None = None
    digit: str = ""
    duration_ms: int = 0
    cause: int | None = None
    cause_txt: str = ""
    playback: Playback | None = None


_events: Final = msgspec.json.Decoder(AriEvent)


class AriError(Exception):
    """What was asked of Asterisk did not succeed, or not knowably; `outcome` labels the metric."""

    outcome = "failed"


class AriDecodeError(AriError):
    """Asterisk sent what cannot be read: no JSON, or a field that is missing or of another type.

    The message names the place, never the content: that holds phone numbers.
    """

    outcome = "unreadable"


class AriUnreachable(AriError):
    """No answer could be had. A request that was not safe to repeat may have been carried out."""

    outcome = "unreachable"


class AriTimeout(AriError):
    """The answer did not come in time. The request may have been, or may yet be, carried out."""

    outcome = "timeout"


class AriRefused(AriError):
    """Asterisk answered with another status than 2xx.

    A POST that creates something may have created it all the same: an id that exists already is
    reported as 500 for external media channels.
    """

    outcome = "refused"

    def __init__(self, request: str, status: int, message: str) -> None:
        super().__init__(f"{request} was answered with {status}: {message}")
        self.request = request
        self.status = status
        self.message = message


class AriAbsent(AriRefused):
    """404: the channel, bridge or variable is not there, or not any more."""

    outcome = "absent"


class ChannelNotInStasis(AriRefused):
    """The channel exists, but is not in the Stasis application: not yet, or not any more.

    addChannel says so with 422, an operation on the channel itself with 409.
    """

    outcome = "not_in_stasis"


def refusal(request: str, status: int, body: bytes) -> AriRefused:
    """The error for an answer other than 2xx; ARI puts the reason into `{"message": …}`.

    `request` is what the error shall call the request, as "POST /bridges/b/addChannel".
    """
    message = _refusal_message(body)
    if status == 404:
        return AriAbsent(request, status, message)
    if status in (409, 422) and message.startswith("Channel not in Stasis"):
        return ChannelNotInStasis(request, status, message)
    return AriRefused(request, status, message)


def _refusal_message(body: bytes) -> str:
    try:
        answer: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        answer = None  # not from ARI itself, but from Asterisk's HTTP server or a proxy
    if isinstance(answer, dict) and isinstance(answer.get("message"), str):
        return str(answer["message"])[:_MESSAGE_CHARS]
    return body.decode(errors="replace")[:_MESSAGE_CHARS].strip() or "no reason given"


def decode_event(text: str | bytes) -> AriEvent:
    """One text message of the events WebSocket.

    Raises:
        AriDecodeError: it is no JSON, or not shaped like an event.
    """
    try:
        return _events.decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise AriDecodeError(f"unreadable ARI event of length {len(text)}: {error}") from error


def decode_answer(kind: type[T], body: bytes) -> T:
    """The JSON body of a REST answer as `kind`: one of the Structs here, or a list of one.

    Raises:
        AriDecodeError: it is no JSON, or not shaped like a `kind`.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise AriDecodeError(f"unreadable ARI answer of length {len(body)}: {error}") from error


def media_address(channel: Channel) -> tuple[str, int]:
    """Where Asterisk sends and expects an external media channel's RTP: (IP address, port).

    From the variables UNICASTRTP_LOCAL_ADDRESS and UNICASTRTP_LOCAL_PORT of the answer that created
    the channel (channels/chan_rtp.c).

    Raises:
        AriDecodeError: one of them is missing, or the port is none.
    """
    host = channel.channelvars.get("UNICASTRTP_LOCAL_ADDRESS", "")
    port = channel.channelvars.get("UNICASTRTP_LOCAL_PORT", "")
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise AriDecodeError(
            f"channel {channel.id} has UNICASTRTP_LOCAL_ADDRESS={host!r} and "
            f"UNICASTRTP_LOCAL_PORT={port!r}, needed are an IP address and a port of 1 to 65535"
        )
    return host, int(port)
