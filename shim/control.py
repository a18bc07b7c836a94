"""Everything that supervisor and worker say to each other.

One union of frozen, tagged Structs per direction; one message is one datagram of a Unix
SEQPACKET connection, encoded as MessagePack, with at most one file descriptor beside it.
Times are `CLOCK_MONOTONIC` nanoseconds, which all processes of a machine share.
"""

from typing import Final, TypeAlias, TypeVar

import msgspec

from shim.histogram import Histogram

SOCKET_NAME: Final = "supervisor.sock"
"""The supervisor's listening socket in the run directory."""
LATENESS_BOUNDS_MS: Final = (1, 2, 5, 10, 20, 50, 100, 500)
"""Upper bounds of the lateness histogram of a worker's pacer; one more bucket counts the rest."""
MAX_MESSAGE_BYTES: Final = 64 * 1024
PROTOCOL_VERSION: Final = 2


class ControlError(ValueError):
    """A control message that can't be decoded; its sender is broken."""


class CallSpec(msgspec.Struct, frozen=True):
    """All that a worker needs to serve a call, and a new supervisor to adopt it.

    The outbound RTP stream is fixed by `ssrc`, `first_sequence` and `first_timestamp`: the
    n-th frame has sequence `first_sequence + n`, and its timestamp is `first_timestamp` plus
    160 for each 20 ms since `epoch_ns`. With the number of frames sent, which is in shared
    memory, another worker continues the stream so that its receiver notices nothing.
    `fallback_url` is a second voice server, for when the one at `url` can't be reached.
    `scripted`: the caller's script asked for the stream, and goes on after it.
    `record`: both directions are recorded, as long as it is so.
    `traceparent`: what the voice server's own trace joins (W3C Trace Context); empty: nothing.
    """

    call_sid: str
    stream_sid: str
    account_sid: str
    channel_id: str
    port: int
    url: str
    epoch_ns: int
    ssrc: int
    first_sequence: int
    first_timestamp: int
    custom_parameters: dict[str, str] = {}
    fallback_url: str = ""
    scripted: bool = False
    record: bool = False
    traceparent: str = ""


class CallStats(msgspec.Struct, frozen=True):
    """Counters of one call since its start, in packets, frames and messages."""

    frames_out: int = 0
    frames_in: int = 0
    lost: int = 0
    late: int = 0
    duplicate: int = 0
    malformed: int = 0
    other_payload_type: int = 0
    send_errors: int = 0
    audio_dropped: int = 0
    bad_messages: int = 0
    played_ms: int = 0
    reconnects: int = 0

    def plus(self, other: "CallStats", times: int = 1) -> "CallStats":
        """Both together, or with `times` -1 the difference."""
        pairs = zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True)
        return CallStats(*(mine + times * others for mine, others in pairs))


class CallQuality(msgspec.Struct, frozen=True):
    """How good a call has been so far (`shim.call_quality`).

    `mos` is an estimate, 1 (bad) to 4.4, of the caller's voice as it came to us; `jitter_ms` the
    mean of RFC 3550's interarrival jitter. `first_audio_ms`: from the call's begin to the first
    audio of the voice server; None: there was none. A barge-in is a `clear` that took audio back;
    its time is that until the caller heard nothing of it any more. `judged_s`: so many seconds are
    in the mean jitter.
    """

    mos: float = 0.0
    jitter_ms: float = 0.0
    longest_gap_ms: int = 0
    first_audio_ms: int | None = None
    barge_ins: int = 0
    slowest_barge_in_ms: float = 0.0
    judged_s: int = 0


class StartCall(msgspec.Struct, frozen=True, tag=True):
    """Serve a call; its bound RTP socket comes along.

    `resumed`: another worker had it before; `stats` and `quality` are what it told of it last.
    `media_connected`: as if `MediaConnected` followed.
    """

    call: CallSpec
    resumed: bool = False
    media_connected: bool = False
    stats: CallStats = CallStats()
    quality: CallQuality = CallQuality()


class MediaConnected(msgspec.Struct, frozen=True, tag=True):
    """The call's RTP socket is connected to Asterisk's media address: start to send."""

    call_sid: str


class PressDigit(msgspec.Struct, frozen=True, tag=True):
    """The caller pressed a key."""

    call_sid: str
    digit: str


class StartRecording(msgspec.Struct, frozen=True, tag=True):
    """Record the call from now on; one that is being recorded stays so."""

    call_sid: str


class StopRecording(msgspec.Struct, frozen=True, tag=True):
    """End the call's recording; what comes with another start is another recording."""

    call_sid: str


class EndCall(msgspec.Struct, frozen=True, tag=True):
    """The call is over: end its stream, answer with `CallClosed`."""

    call_sid: str
    reason: str


class ReleaseCall(msgspec.Struct, frozen=True, tag=True):
    """Another worker is about to take the call: let go of it, answer with `CallReleased`."""

    call_sid: str


class StopWorker(msgspec.Struct, frozen=True, tag=True):
    """End all calls and exit."""


ToWorker: TypeAlias = (
    StartCall
    | MediaConnected
    | PressDigit
    | StartRecording
    | StopRecording
    | EndCall
    | ReleaseCall
    | StopWorker
)


class Hello(msgspec.Struct, frozen=True, tag=True):
    """A worker's first message. `calls` messages `HeldCall` follow.

    `table_id` names the port table that it uses: a supervisor with another one can't adopt it.
    """

    worker: int
    seat: int
    pid: int
    cpus: list[int]
    table_id: int
    calls: int = 0
    version: int = PROTOCOL_VERSION


class HeldCall(msgspec.Struct, frozen=True, tag=True):
    """A call that the worker has already; its RTP socket comes along."""

    call: CallSpec
    connected: bool


class StreamStarted(msgspec.Struct, frozen=True, tag=True):
    """The voice server has accepted the call's WebSocket, `connect_ms` after the first try."""

    call_sid: str
    connect_ms: float


class StreamEnded(msgspec.Struct, frozen=True, tag=True):
    """The voice server ended the stream (`failed` false), or could not be reached any more."""

    call_sid: str
    reason: str
    failed: bool


class CallClosed(msgspec.Struct, frozen=True, tag=True):
    """The worker has let go of the call and of its RTP socket."""

    call_sid: str
    stats: CallStats
    quality: CallQuality | None = None


class CallReleased(msgspec.Struct, frozen=True, tag=True):
    """The worker sends nothing more for the call, and has closed its stream without a `stop`."""

    call_sid: str
    stats: CallStats
    quality: CallQuality | None = None


class CallRefused(msgspec.Struct, frozen=True, tag=True):
    """The worker can't take the call."""

    call_sid: str
    reason: str


class SendDigits(msgspec.Struct, frozen=True, tag=True):
    """The voice server wants these DTMF digits sent to the caller."""

    call_sid: str
    digits: str


class RecordingStats(msgspec.Struct, frozen=True):
    """What a worker has recorded since its start.

    `lost_chunks` counts pieces of about a second that could not be written, `refused` recordings
    that were not begun as there was no room for them.
    """

    written_bytes: int = 0
    lost_chunks: int = 0
    refused: int = 0

    def plus(self, other: "RecordingStats", times: int = 1) -> "RecordingStats":
        """Both together, or with `times` -1 the difference."""
        pairs = zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True)
        return RecordingStats(*(mine + times * others for mine, others in pairs))


class CallFigures(msgspec.Struct, frozen=True):
    """A call as it is now. `depth_ms`: so much audio waits to be played to the caller.

    `jitter_now_ms` is RFC 3550's interarrival jitter of the moment. `silent_ms`: for so long no
    packet of the caller has come to this worker when one was due.
    """

    call_sid: str
    stats: CallStats = CallStats()
    quality: CallQuality = CallQuality()
    depth_ms: int = 0
    stream_open: bool = False
    jitter_now_ms: float = 0.0
    silent_ms: int = 0


class CallsNow(msgspec.Struct, frozen=True, tag=True):
    """Some of a worker's calls; each is told of once a second."""

    calls: list[CallFigures]


class WorkerTotals(msgspec.Struct, frozen=True):
    """What a worker has counted since its start; it only grows."""

    stats: CallStats = CallStats()
    skipped_frames: int = 0
    cpu_seconds: float = 0.0
    lateness: Histogram = msgspec.field(default_factory=Histogram)
    """Of the pacer's slots, in ms, with the bounds `LATENESS_BOUNDS_MS`."""
    loop_lag: Histogram = msgspec.field(default_factory=Histogram)
    """How late the event loop ran what was due, in ms."""
    depth: Histogram = msgspec.field(default_factory=Histogram)
    """Audio that waited to be played, in ms: one value per call and second."""
    barge_in: Histogram = msgspec.field(default_factory=Histogram)
    """From a `clear` to the first frame without what it took back, in ms."""
    recording: RecordingStats = RecordingStats()

    def plus(self, other: "WorkerTotals", times: int = 1) -> "WorkerTotals":
        """Both together, or with `times` -1 the difference."""
        return WorkerTotals(
            self.stats.plus(other.stats, times),
            self.skipped_frames + times * other.skipped_frames,
            self.cpu_seconds + times * other.cpu_seconds,
            *(
                getattr(self, name).plus(getattr(other, name), times)
                for name in ("lateness", "loop_lag", "depth", "barge_in", "recording")
            ),
        )


class WorkerStats(msgspec.Struct, frozen=True, tag=True):
    """A worker's state, each second."""

    calls: int
    rss_bytes: int
    worst_lateness_ms: float
    totals: WorkerTotals


FromWorker: TypeAlias = (
    Hello
    | HeldCall
    | StreamStarted
    | StreamEnded
    | CallClosed
    | CallReleased
    | CallRefused
    | SendDigits
    | CallsNow
    | WorkerStats
)

T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()
_to_worker = msgspec.msgpack.Decoder(ToWorker)
_from_worker = msgspec.msgpack.Decoder(FromWorker)


def encode(message: ToWorker | FromWorker) -> bytes:
    """Encode one message.

    Raises:
        ControlError: it is larger than `MAX_MESSAGE_BYTES`.
    """
    data = _encoder.encode(message)
    if len(data) > MAX_MESSAGE_BYTES:
        name = type(message).__name__
        raise ControlError(f"{name} has {len(data)} bytes, {MAX_MESSAGE_BYTES} are allowed")
    return data


def decode_to_worker(data: bytes) -> ToWorker:
    """Decode a message of the supervisor; raises ControlError."""
    message: ToWorker = _decode(_to_worker, data)
    return message


def decode_from_worker(data: bytes) -> FromWorker:
    """Decode a message of a worker; raises ControlError."""
    message: FromWorker = _decode(_from_worker, data)
    return message


def _decode(decoder: msgspec.msgpack.Decoder[T], data: bytes) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ControlError(f"undecodable control message of {len(data)} bytes: {error}") from error
