"""A phone call as its operator knows it: who calls whom, what is to be done, what came of it. Pure.

The call table's `Call` is one stream of a caller's channel; a phone call is all that happens
between the first ring and the end, streams included. Times are Unix seconds, 0 for "not yet".
"""

from enum import StrEnum
from typing import Protocol, TypeAlias

from msgspec import Struct


class CallStatus(StrEnum):
    """Twilio's states of a call: https://www.twilio.com/docs/voice/api/call-resource."""

    QUEUED = "queued"
    RINGING = "ringing"
    IN_PROGRESS = "in-progress"
    COMPLETED = "completed"
    BUSY = "busy"
    FAILED = "failed"
    NO_ANSWER = "no-answer"
    CANCELED = "canceled"

    @property
    def is_final(self) -> bool:
        """Whether the call is over."""
        return self not in (CallStatus.QUEUED, CallStatus.RINGING, CallStatus.IN_PROGRESS)


class Direction(StrEnum):
    """Who began the call: a caller, the API, or a `<Dial>` of another call."""

    INBOUND = "inbound"
    OUTBOUND_API = "outbound-api"
    OUTBOUND_DIAL = "outbound-dial"


class Script(Struct, frozen=True):
    """Where a call's TwiML comes from: `twiml` itself, or a URL; both empty: straight to a stream.

    `fallback_url` is asked when `url` gives no usable TwiML.
    """

    twiml: str = ""
    url: str = ""
    method: str = "POST"
    fallback_url: str = ""
    fallback_method: str = "POST"


class StatusCallback(Struct, frozen=True):
    """Who is told of a call's progress: of `initiated`, `ringing`, `answered`, `completed`."""

    url: str
    method: str = "POST"
    events: frozenset[str] = frozenset({"completed"})


class PhoneCall(Struct):
    """The state of one phone call. `sid` is its CallSid."""

    sid: str
    account_sid: str
    direction: Direction
    caller: str
    called: str
    created_at: float
    status: CallStatus = CallStatus.QUEUED
    parent_sid: str = ""
    channel_id: str = ""
    answered_at: float = 0.0
    ended_at: float = 0.0
    updated_at: float = 0.0
    reason: str = ""


class CallOrder(Struct, frozen=True):
    """A call to be placed. `to` is an E.164 number or a SIP URI; times are seconds."""

    to: str
    caller: str
    script: Script
    timeout_s: int = 60
    time_limit_s: int = 14400
    send_digits: str = ""
    record: bool = False
    callback: StatusCallback | None = None


class Hangup(Struct, frozen=True):
    """End the call; one that was never answered is canceled."""


class NewScript(Struct, frozen=True):
    """Leave what the call does now, and follow this script."""

    script: Script


class Transfer(Struct, frozen=True):
    """Connect the other side to `target`: E.164 number, SIP URI, or `context,extension,priority`.

    Attended: the caller waits with music while the stream talks to the target, until
    `CompleteTransfer` or `CancelTransfer`.
    """

    target: str
    attended: bool = False


class CompleteTransfer(Struct, frozen=True):
    """The caller and the consulted target talk; the stream ends."""


class CancelTransfer(Struct, frozen=True):
    """The consulted target is let go; the caller is back at the stream."""


class Hold(Struct, frozen=True):
    """The other side hears music, and the stream hears silence; or that is over."""

    on: bool


class Mute(Struct, frozen=True):
    """The stream isn't heard (and keeps hearing); or that is over."""

    on: bool


class PlayDigits(Struct, frozen=True):
    """Send DTMF to the other side: 0-9, *, #, A-D, and w for half a second's pause."""

    digits: str


class AddParty(Struct, frozen=True):
    """Call a third party into the conversation. `instead`: the stream ends when they answer."""

    target: str
    instead: bool = False


class Record(Struct, frozen=True):
    """Record from now on, or stop to."""

    on: bool


Order: TypeAlias = (
    Hangup
    | NewScript
    | Transfer
    | CompleteTransfer
    | CancelTransfer
    | Hold
    | Mute
    | PlayDigits
    | AddParty
    | Record
)


class CallQuery(Struct, frozen=True):
    """Which calls are wanted. Times are Unix seconds: from (inclusive) and until (exclusive)."""

    to: str = ""
    caller: str = ""
    parent_sid: str = ""
    status: CallStatus | None = None
    started_from: float | None = None
    started_until: float | None = None
    ended_from: float | None = None
    ended_until: float | None = None


class CallRejected(Exception):
    """An order that can't be followed: Twilio's error code, an HTTP status, and what is wrong."""

    def __init__(self, code: int, status: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class PhoneCalls(Protocol):
    """What the HTTP interface needs of the calls. All of it raises CallRejected."""

    async def create(self, order: CallOrder) -> PhoneCall:
        """Queue a call; returns at once, before anything rings."""

    def fetch(self, sid: str) -> PhoneCall | None:
        """A call, running or ended; None when there is none."""

    def find(self, query: CallQuery) -> list[PhoneCall]:
        """The calls that fit, newest first."""

    async def direct(self, sid: str, order: Order) -> PhoneCall:
        """Follow an order on a call; returns when that is done."""

    def delete(self, sid: str) -> None:
        """Forget an ended call."""
