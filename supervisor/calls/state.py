"""One call as the supervisor knows it."""

from enum import StrEnum

from msgspec import Struct

from shim.control import CallQuality, CallSpec, CallStats


class Leg(StrEnum):
    """The two channels that a call's bridge joins."""

    CALLER = "caller"
    MEDIA = "media"


class Part(StrEnum):
    """What Asterisk holds for a call and must not hold any more when it is over."""

    CALLER = "caller"
    MEDIA = "media"
    BRIDGE = "bridge"


class Phase(StrEnum):
    """How far a call is. ENDING lasts until nothing of the call is left anywhere."""

    SETTING_UP = "setting up"
    UP = "up"
    ENDING = "ending"


class Presence(StrEnum):
    """Whether a thing exists outside of us, as far as we know.

    REQUESTED things may exist already: they are removed when the answer is there, whatever it
    says, because an answer that got lost is no proof.
    """

    ABSENT = "absent"
    REQUESTED = "requested"
    PRESENT = "present"
    REMOVING = "removing"


class OnEnd(StrEnum):
    """What becomes of a caller whose stream is over.

    KEEP: nothing; the caller stays in the app, for whoever has asked for the stream.
    """

    HANG_UP = "hangup"
    CONTINUE = "continue"
    KEEP = "keep"


class Target(Struct, frozen=True):
    """A stream that was asked for: where to, and its own customParameters."""

    url: str
    parameters: dict[str, str] = {}


class Call(Struct):
    """The state of one call. Times are monotonic nanoseconds, 0 for "not yet"."""

    call_sid: str
    channel_id: str
    started_ns: int
    caller_number: str = ""
    called_number: str = ""
    target: Target | None = None
    phase: Phase = Phase.SETTING_UP
    worker: int = -1
    port: int = 0
    caller: Presence = Presence.PRESENT
    media: Presence = Presence.ABSENT
    bridge: Presence = Presence.ABSENT
    stream: Presence = Presence.ABSENT
    media_entered: bool = False
    media_connected: bool = False
    joining: set[Leg] = set()
    joined: set[Leg] = set()
    up_ns: int = 0
    deadline_ns: int = 0
    reason: str = ""
    on_end: OnEnd = OnEnd.HANG_UP
    stats: CallStats = CallStats()
    quality: CallQuality | None = None
    was_adopted: bool = False

    @property
    def keeps_caller(self) -> bool:
        """Whether the caller was there before this stream, and shall be there after it."""
        return self.target is not None

    @property
    def is_gone(self) -> bool:
        """Whether the call is over and nothing of it is left."""
        parts = (self.caller, self.media, self.bridge, self.stream)
        return self.phase is Phase.ENDING and all(part is Presence.ABSENT for part in parts)


def adopted_call(spec: CallSpec, worker: int, now_ns: int) -> Call:
    """A call that is up already, as a worker of an earlier supervisor tells of it."""
    return Call(
        call_sid=spec.call_sid,
        channel_id=spec.channel_id,
        started_ns=spec.epoch_ns,
        target=Target(spec.url) if spec.scripted else None,
        phase=Phase.UP,
        worker=worker,
        port=spec.port,
        media=Presence.PRESENT,
        bridge=Presence.PRESENT,
        stream=Presence.PRESENT,
        media_entered=True,
        media_connected=True,
        joining=set(Leg),
        joined=set(Leg),
        up_ns=now_ns,
        was_adopted=True,
    )
