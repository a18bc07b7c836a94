"""What can happen to a call, and what can be done about it: the call table's two languages.

Events are facts, in the past tense; commands are orders. Each names the call by its `call_sid`,
but for events of a caller's channel, which name the channel.
"""

from typing import TypeAlias

from msgspec import Struct

from shim.control import CallQuality, CallStats
from supervisor.calls.state import Call, Leg, Part, Target


class CallerEntered(Struct, frozen=True):
    """A caller's channel has entered the Stasis app (`StasisStart`, or found there).

    `call_sid`: it has one already. `target`: a stream that its script asks for; without one the
    caller gets the operator's.
    """

    channel_id: str
    caller: str = ""
    called: str = ""
    call_sid: str = ""
    target: Target | None = None


class CallerLeft(Struct, frozen=True):
    """The caller's channel hung up, left the app, or is gone."""

    channel_id: str


class DigitPressed(Struct, frozen=True):
    """The caller pressed a key (`ChannelDtmfReceived`)."""

    channel_id: str
    digit: str


class DigitsWanted(Struct, frozen=True):
    """The voice server wants digits sent to the caller."""

    call_sid: str
    digits: str


class Placed(Struct, frozen=True):
    """A worker and a port were found; the RTP socket is bound."""

    call_sid: str
    worker: int
    port: int


class PlacementFailed(Struct, frozen=True):
    """No worker can take the call."""

    call_sid: str
    reason: str


class BridgeCreated(Struct, frozen=True):
    """The bridge is there."""

    call_sid: str


class MediaLegCreated(Struct, frozen=True):
    """The ExternalMedia channel is there, and the RTP socket is connected to it."""

    call_sid: str


class MediaLegEntered(Struct, frozen=True):
    """The ExternalMedia channel has entered the app: only now can it be bridged."""

    call_sid: str


class MediaLegLeft(Struct, frozen=True):
    """The ExternalMedia channel is gone."""

    call_sid: str


class Joined(Struct, frozen=True):
    """A leg is in the bridge."""

    call_sid: str
    leg: Leg


class LegMissing(Struct, frozen=True):
    """A leg that should be in the bridge is not."""

    call_sid: str
    leg: Leg


class StepFailed(Struct, frozen=True):
    """A step of the set-up failed; what it should have made may exist all the same."""

    call_sid: str
    step: str
    reason: str


class PartRemoved(Struct, frozen=True):
    """A part of the call is gone from Asterisk."""

    call_sid: str
    part: Part


class RemovalFailed(Struct, frozen=True):
    """A part could not be removed now; it will be tried again."""

    call_sid: str
    part: Part


class StreamStarted(Struct, frozen=True):
    """The voice server accepted the stream."""

    call_sid: str


class StreamEnded(Struct, frozen=True):
    """The voice server ended the stream, or (`failed`) could not be reached."""

    call_sid: str
    reason: str
    failed: bool


class StreamClosed(Struct, frozen=True):
    """The worker has let go of the call."""

    call_sid: str
    stats: CallStats
    quality: CallQuality | None = None


class StreamLost(Struct, frozen=True):
    """The worker that served the call is dead."""

    call_sid: str


class StreamMoved(Struct, frozen=True):
    """Another worker serves the call now."""

    call_sid: str
    worker: int


Event: TypeAlias = (
    CallerEntered
    | CallerLeft
    | DigitPressed
    | DigitsWanted
    | Placed
    | PlacementFailed
    | BridgeCreated
    | MediaLegCreated
    | MediaLegEntered
    | MediaLegLeft
    | Joined
    | LegMissing
    | StepFailed
    | PartRemoved
    | RemovalFailed
    | StreamStarted
    | StreamEnded
    | StreamClosed
    | StreamLost
    | StreamMoved
)


class Place(Struct, frozen=True):
    """Find a worker and a port, bind the RTP socket."""

    call_sid: str


class CreateBridge(Struct, frozen=True):
    """Create the call's mixing bridge."""

    call_sid: str


class CreateMediaLeg(Struct, frozen=True):
    """Create the ExternalMedia channel, and connect the RTP socket to its address."""

    call_sid: str


class OpenStream(Struct, frozen=True):
    """Hand the call to its worker."""

    call_sid: str


class MoveStream(Struct, frozen=True):
    """Hand the call to another worker, as its own is dead."""

    call_sid: str


class Join(Struct, frozen=True):
    """Put a leg into the bridge."""

    call_sid: str
    leg: Leg


class PressDigit(Struct, frozen=True):
    """Tell the worker of a key that the caller pressed."""

    call_sid: str
    digit: str


class SendDigits(Struct, frozen=True):
    """Send DTMF digits to the caller."""

    call_sid: str
    digits: str


class CloseStream(Struct, frozen=True):
    """Tell the worker that the call is over."""

    call_sid: str
    reason: str


class RemovePart(Struct, frozen=True):
    """Delete a bridge or ExternalMedia channel, hang up a caller's channel."""

    call_sid: str
    part: Part


class ContinueCaller(Struct, frozen=True):
    """Give the caller's channel back to the dialplan, which goes on with its next line."""

    call_sid: str


class Forget(Struct, frozen=True):
    """The call is over and nothing of it is left: let go of its port."""

    call_sid: str
    call: Call


Command: TypeAlias = (
    Place
    | CreateBridge
    | CreateMediaLeg
    | OpenStream
    | MoveStream
    | Join
    | PressDigit
    | SendDigits
    | CloseStream
    | RemovePart
    | ContinueCaller
    | Forget
)
