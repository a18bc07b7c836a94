"""All calls, and what to do when something happens to one of them.

Pure: an event and the time go in, commands come out. Whoever carries out the commands tells
the table what came of them, as further events. Events may come twice, late or in any order.

    CallerEntered ──Place── Placed ─┬─CreateBridge──── BridgeCreated ── Join caller ─┐
                                    ├─CreateMediaLeg── MediaLegEntered ─ Join media ─┼─ UP
                                    └─OpenStream       (MediaLegCreated) ────────────┘

A call that ends, at whichever step, first becomes ENDING; each of its parts is then removed
as soon as it is known whether it exists, and the call is forgotten when all are gone.
"""

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from supervisor.calls.events import (
    BridgeCreated,
    CallerEntered,
    CallerLeft,
    CloseStream,
    Command,
    ContinueCaller,
    CreateBridge,
    CreateMediaLeg,
    DigitPressed,
    DigitsWanted,
    Event,
    Forget,
    Join,
    Joined,
    LegMissing,
    MediaLegCreated,
    MediaLegEntered,
    MediaLegLeft,
    MoveStream,
    OpenStream,
    PartRemoved,
    Place,
    Placed,
    PlacementFailed,
    PressDigit,
    RemovalFailed,
    RemovePart,
    SendDigits,
    StepFailed,
    StreamClosed,
    StreamEnded,
    StreamLost,
    StreamMoved,
    StreamStarted,
)
from supervisor.calls.state import Call, Leg, OnEnd, Part, Phase, Presence

REMOVAL_RETRY_NS: Final = 2_000_000_000


class Rules(Struct, frozen=True):
    """What the operator decides. `setup_timeout_ns`: from the caller's entry until audio flows."""

    on_stream_end: OnEnd
    on_stream_failed: OnEnd
    setup_timeout_ns: int


class CallTable:
    """The calls of this supervisor, by call_sid.

    Args:
        rules: the operator's decisions.
        new_call_sid: makes an id of Twilio's shape for a new call.
    """

    def __init__(self, rules: Rules, new_call_sid: Callable[[], str]) -> None:
        self.calls: dict[str, Call] = {}
        self._by_channel: dict[str, str] = {}
        self.rules = rules
        self._new_call_sid = new_call_sid

    def find(self, channel_id: str) -> Call | None:
        """The call of a caller's channel."""
        return self.calls.get(self._by_channel.get(channel_id, ""))

    def adopt(self, call: Call) -> None:
        """Take over a call that a worker has from an earlier supervisor."""
        self.calls[call.call_sid] = call
        self._by_channel[call.channel_id] = call.call_sid

    def handle(self, event: Event, now_ns: int) -> list[Command]:
        """Take in an event; returns what is to be done, which may be done all at once."""
        if isinstance(event, CallerEntered):
            return self._enter(event, now_ns)
        call = (
            self.find(event.channel_id)
            if isinstance(event, CallerLeft | DigitPressed)
            else self.calls.get(event.call_sid)
        )
        if call is None:
            return []
        commands = self._apply(call, event, now_ns)
        if call.is_gone:
            self._remove(call)
            commands.append(Forget(call.call_sid, call))
        return commands

    def end(self, call_sid: str, reason: str, on_end: OnEnd, now_ns: int) -> list[Command]:
        """End a call by our own wish."""
        call = self.calls.get(call_sid)
        return self._end(call, reason, on_end, now_ns) if call else []

    def abandon(self, call_sid: str, reason: str) -> list[Command]:
        """Let go of a call whose channels belong to somebody else now: nothing is removed there."""
        call = self.calls.get(call_sid)
        if call is None:
            return []
        call.phase = Phase.ENDING
        call.reason = reason
        call.deadline_ns = 0
        call.caller = call.media = call.bridge = Presence.ABSENT
        if call.stream is Presence.ABSENT:
            self._remove(call)
            return [Forget(call_sid, call)]
        call.stream = Presence.REMOVING
        return [CloseStream(call_sid, reason)]

    def expire(self, now_ns: int) -> list[Command]:
        """What is due by time: set-ups that took too long, removals to try again."""
        commands: list[Command] = []
        for call in self.calls.values():
            if call.deadline_ns and call.deadline_ns <= now_ns:
                call.deadline_ns = 0
                if call.phase is Phase.SETTING_UP:
                    commands += self._end(call, "setup_timeout", _on_end(call), now_ns)
                elif call.phase is Phase.ENDING:
                    commands += _remove_parts(call)
        return commands

    def next_deadline_ns(self) -> int | None:
        """The earliest time at which `expire` has something to do."""
        deadlines = (call.deadline_ns for call in self.calls.values() if call.deadline_ns)
        return min(deadlines, default=None)

    def _remove(self, call: Call) -> None:
        del self.calls[call.call_sid]
        if self._by_channel.get(call.channel_id) == call.call_sid:
            del self._by_channel[call.channel_id]

    def _enter(self, event: CallerEntered, now_ns: int) -> list[Command]:
        earlier = self.find(event.channel_id)
        if earlier is not None and earlier.caller is not Presence.ABSENT:
            return []  # told twice; but one who had left, and comes again, is a new call
        call = Call(
            call_sid=event.call_sid or self._new_call_sid(),
            channel_id=event.channel_id,
            started_ns=now_ns,
            caller_number=event.caller,
            called_number=event.called,
            target=event.target,
            deadline_ns=now_ns + self.rules.setup_timeout_ns,
        )
        self.adopt(call)
        return [Place(call.call_sid)]

    def _apply(self, call: Call, event: Event, now_ns: int) -> list[Command]:  # noqa: C901 - the one table of all transitions
        sid = call.call_sid
        match event:
            case Placed(worker=worker, port=port):
                call.worker, call.port = worker, port
                if call.phase is Phase.ENDING:
                    return []
                call.bridge = call.media = call.stream = Presence.REQUESTED
                return [CreateBridge(sid), CreateMediaLeg(sid), OpenStream(sid)]
            case PlacementFailed(reason=reason):
                return self._end(call, reason, _on_end(call), now_ns)
            case BridgeCreated():
                call.bridge = Presence.PRESENT
                return self._go_on(call, now_ns)
            case MediaLegCreated():
                call.media = Presence.PRESENT
                call.media_connected = True
                return self._go_on(call, now_ns)
            case MediaLegEntered():
                call.media_entered = True
                return self._go_on(call, now_ns)
            case Joined(leg=leg):
                call.joined.add(leg)
                return self._go_on(call, now_ns)
            case LegMissing(leg=leg):
                call.joined.discard(leg)
                call.joining.discard(leg)
                return self._go_on(call, now_ns)
            case StepFailed(step=step, reason=reason):
                _assume_present(call, step)
                if call.phase is Phase.ENDING:
                    return _remove_parts(call)
                return self._end(call, f"{step} failed: {reason}", _on_end(call), now_ns)
            case StreamStarted():
                if call.stream is Presence.REQUESTED:
                    call.stream = Presence.PRESENT
                return []
            case StreamEnded(reason=reason, failed=failed):
                on_end = self.rules.on_stream_failed if failed else self.rules.on_stream_end
                return self._end(call, reason, _on_end(call, on_end), now_ns)
            case StreamClosed(stats=stats, quality=quality):
                call.stats, call.quality = stats, quality
                call.stream = Presence.ABSENT
                return self._end(call, "worker gave up", _on_end(call), now_ns)
            case StreamLost():
                if call.phase is Phase.ENDING:
                    call.stream = Presence.ABSENT
                    return []
                return [MoveStream(sid)]
            case StreamMoved(worker=worker):
                call.worker = worker
                return []
            case CallerLeft():
                call.caller = Presence.ABSENT
                return self._end(call, "caller hung up", OnEnd.HANG_UP, now_ns)
            case MediaLegLeft():
                if call.media is not Presence.REQUESTED:
                    call.media = Presence.ABSENT
                return self._end(call, "media leg lost", _on_end(call), now_ns)
            case PartRemoved(part=part):
                setattr(call, part.value, Presence.ABSENT)
                return []
            case RemovalFailed(part=part):
                if getattr(call, part.value) is Presence.REMOVING:
                    setattr(call, part.value, Presence.PRESENT)
                call.deadline_ns = now_ns + REMOVAL_RETRY_NS
                return []
            case DigitPressed(digit=digit):
                return [PressDigit(sid, digit)] if call.phase is not Phase.ENDING else []
            case DigitsWanted(digits=digits):
                return [SendDigits(sid, digits)] if call.phase is not Phase.ENDING else []
            case _:
                raise TypeError(f"{type(event).__name__} is no event of a call")

    def _go_on(self, call: Call, now_ns: int) -> list[Command]:
        """Do what the set-up still lacks, as far as it can be done now."""
        if call.phase is Phase.ENDING:
            return _remove_parts(call)
        commands: list[Command] = []
        if call.bridge is Presence.PRESENT:
            ready = {Leg.CALLER, Leg.MEDIA} if call.media_entered else {Leg.CALLER}
            for leg in sorted(ready - call.joining):
                call.joining.add(leg)
                commands.append(Join(call.call_sid, leg))
        if call.phase is Phase.SETTING_UP and len(call.joined) == 2 and call.media_connected:
            call.phase = Phase.UP
            call.up_ns = now_ns
            call.deadline_ns = 0
        return commands

    def _end(self, call: Call, reason: str, on_end: OnEnd, now_ns: int) -> list[Command]:
        if call.phase is Phase.ENDING:
            return []
        call.phase = Phase.ENDING
        call.reason = reason
        call.on_end = on_end
        call.deadline_ns = 0
        if on_end is OnEnd.KEEP:
            call.caller = Presence.ABSENT
        commands = _remove_parts(call)
        if call.stream is not Presence.ABSENT:
            call.stream = Presence.REMOVING
            commands.append(CloseStream(call.call_sid, reason))
        return commands


def _on_end(call: Call, otherwise: OnEnd = OnEnd.CONTINUE) -> OnEnd:
    """What becomes of the caller when the stream ends: a script goes on by itself."""
    return OnEnd.KEEP if call.keeps_caller else otherwise


def _assume_present(call: Call, step: str) -> None:
    """A creation that failed may have succeeded all the same: remove it."""
    if step in (Part.BRIDGE, Part.MEDIA):
        setattr(call, step, Presence.PRESENT)


def _remove_parts(call: Call) -> list[Command]:
    """Remove what is known to exist; what is only requested follows when its answer is there."""
    commands: list[Command] = []
    if call.caller is Presence.PRESENT:
        call.caller = Presence.REMOVING
        if call.on_end is OnEnd.CONTINUE:
            commands.append(ContinueCaller(call.call_sid))
        else:
            commands.append(RemovePart(call.call_sid, Part.CALLER))
    for part in (Part.MEDIA, Part.BRIDGE):
        if getattr(call, part.value) is Presence.PRESENT:
            setattr(call, part.value, Presence.REMOVING)
            commands.append(RemovePart(call.call_sid, part))
    return commands
