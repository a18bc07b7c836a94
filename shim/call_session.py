"""One call in a worker: its RTP on one side, its stream to the voice server on the other.

The session keeps the caller's side going whatever the voice server does: a frame leaves each
20 ms from the moment that Asterisk's media address is known until the supervisor ends the call.
"""

import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from shim import agent_messages
from shim.agent_link import AgentLink
from shim.agent_messages import AgentMessage, BadMessage, Clear, Dtmf, Mark, Media, MessageWriter
from shim.call_quality import QualityWatch
from shim.control import (
    CallClosed,
    CallFigures,
    CallQuality,
    CallReleased,
    CallStats,
    FromWorker,
    SendDigits,
    StartCall,
    StreamEnded,
    StreamStarted,
)
from shim.inbound_stream import InboundStream
from shim.link_opener import LinkOpener
from shim.media_clock import MAX_DATAGRAM_BYTES, MediaClock
from shim.outbound_stream import OutboundStream
from shim.pcmu import BYTES_PER_MS, PTIME_MS, SILENT_FRAME
from shim.playout import PassedMark, Playout
from shim.recording_tap import RecordingTap
from shim.recording_writer import Recording, RecordingWriter
from shim.stream_connector import StreamConnector

log = structlog.get_logger()

HELD_FRAMES: Final = 200 // PTIME_MS
"""Caller's audio kept for a voice server that can't take it now: what is older than 200 ms
would only make the conversation lag."""
RESUME_BELOW_MS: Final = 2000
"""Reading goes on when so much room is in a buffer that was full, not for every frame."""
DROPPED_LINK_CODES: Final = frozenset({1001, 1006, 1011, 1012, 1013, 1014})
"""Close codes (RFC 6455 section 7.4.1, IANA registry) that speak of trouble, not of an end."""
MAX_DRAINED: Final = 1024
"""More than a UDP socket's default buffer holds (256 small packets were seen to wait)."""


class StreamSettings(msgspec.Struct, frozen=True):
    """How long to try to reach a voice server, and how much audio may wait to be played.

    `hold_frames` are what the caller hears while a lost voice server is being reached again;
    none: silence.
    """

    connect_budget_s: float
    buffer_limit_ms: int
    hold_frames: tuple[bytes, ...] = ()


class CallSession:
    """Serves one call from `start` to `end`.

    Args:
        start: what the supervisor says of the call.
        rtp: its bound UDP socket, owned by the session from now on.
        words: its words in shared memory.
        settings, opener: how to reach the voice server.
        report: tells the supervisor.
    """

    def __init__(
        self,
        start: StartCall,
        rtp: socket.socket,
        words: memoryview,
        settings: StreamSettings,
        opener: LinkOpener,
        report: Callable[[FromWorker], None],
    ) -> None:
        rtp.setblocking(False)
        self.call = call = start.call
        self.rtp = rtp
        self.media_connected = False
        self._connected_ns = 0
        self._stream_sid = call.stream_sid
        self._words = words
        self._settings = settings
        self._frames_limit = settings.buffer_limit_ms // PTIME_MS
        self._connector = StreamConnector(
            call, opener, settings.connect_budget_s, self._stream_failed
        )
        self._report = report
        self._log = log.bind(call_id=call.call_sid)
        self._playout = Playout()
        self._inbound = InboundStream(call.epoch_ns)
        self._outbound: OutboundStream
        self._writer = MessageWriter(call)
        self._link: AgentLink | None = None
        self._resumed = start.resumed
        self._held: deque[tuple[bytes, int]] = deque(maxlen=HELD_FRAMES)
        self._held_frames = 0
        self._recording: Recording | None = None
        self._tap: RecordingTap | None = None
        self._watching = True  # marks wait, reading is paused, or a moment is to be noted
        self._quality = QualityWatch(call.epoch_ns, start.quality)
        self._before = msgspec.structs.replace(start.stats, frames_out=words[0])  # other workers'
        self._warned: set[str] = set()
        self._audio_dropped = 0
        self._bad_messages = 0
        self._reconnects = 0

    def start(self) -> None:
        """Open the stream to the voice server."""
        self._connector.connect(self)

    def connect_media(self, clock: MediaClock) -> None:
        """The socket is connected to Asterisk: drop what came from elsewhere, start to send."""
        if self.media_connected:
            return
        drain(self.rtp)
        first_ns = clock.add(self)
        self._outbound = OutboundStream(self.call, self.rtp.send, self._words, first_ns)
        self.media_connected = True
        self._connected_ns = time.monotonic_ns()

    def start_recording(self, writer: RecordingWriter) -> None:
        """Record both directions from now on; media must be connected."""
        if self._recording is None:
            self._recording = writer.begin(self.call)
            self._tap = self._recording.tap

    def stop_recording(self, *, final: bool = True) -> None:
        """End the recording, if there is one; not `final`: another worker goes on with it."""
        recording, self._recording, self._tap = self._recording, None, None
        if recording is not None:
            recording.end(self._outbound.position, final=final)

    def end(self, clock: MediaClock) -> AgentLink | None:
        """End the stream, let go of the socket, and report the call as closed.

        Returns the link, if there was one, which still waits for its close handshake.
        """
        link = self._let_go(clock)
        self.stop_recording()
        if link is not None:
            link.close(self._writer.stop())
        stats = self.stats()
        self._report(CallClosed(self.call.call_sid, stats, self._sum_up(stats)))
        return link

    def release(self, clock: MediaClock) -> AgentLink | None:
        """Let go of a call that another worker takes over; otherwise as `end`."""
        link = self._let_go(clock)
        self.stop_recording(final=False)
        if link is not None:
            link.close_for_restart()
        stats = self.stats()
        self._report(CallReleased(self.call.call_sid, stats, self._sum_up(stats)))
        return link

    def _let_go(self, clock: MediaClock) -> AgentLink | None:
        self._connector.stop()
        clock.remove(self)
        self.rtp.close()
        link, self._link = self._link, None
        return link

    @property
    def slot(self) -> int | None:
        """The call's slot of the pacer, kept in shared memory for the worker after this one."""
        return self._words[2] - 1 if self._words[2] else None

    @slot.setter
    def slot(self, slot: int | None) -> None:
        self._words[2] = 0 if slot is None else slot + 1

    def press_digit(self, digit: str) -> None:
        """The caller pressed a key."""
        self._inbound.press_key(time.monotonic_ns())
        if self._link is not None:
            self._link.send(self._writer.dtmf(digit))

    def stats(self) -> CallStats:
        """The call's counters, with what other workers have done for it before."""
        stats = self._before.plus(self.own_stats())
        self._words[1] = stats.frames_in
        return stats

    def own_stats(self) -> CallStats:
        """The counters of this worker alone."""
        counts = self._inbound.counts
        return CallStats(
            frames_out=self._words[0] - self._before.frames_out,
            frames_in=counts.received,
            lost=counts.lost,
            late=counts.late,
            duplicate=counts.duplicate,
            malformed=counts.malformed,
            other_payload_type=counts.other_payload_type,
            send_errors=self._outbound.send_errors if self.media_connected else 0,
            audio_dropped=self._audio_dropped,
            bad_messages=self._bad_messages,
            played_ms=self._playout.played_bytes // BYTES_PER_MS,
            reconnects=self._reconnects,
        )

    def figures(self) -> CallFigures:
        """The call as it is now; to be asked for once a second."""
        self._quality.sample(self._inbound.jitter_ns)
        stats = self.stats()
        return CallFigures(
            call_sid=self.call.call_sid,
            stats=stats,
            quality=self._sum_up(stats),
            depth_ms=self._playout.queued_bytes // BYTES_PER_MS,
            stream_open=self._link is not None,
            jitter_now_ms=round(self._inbound.jitter_ns / 1e6, 1),
            silent_ms=self._silent_ms(),
        )

    def _silent_ms(self) -> int:
        if not self.media_connected:
            return 0
        now_ns = time.monotonic_ns()
        silent_ns = min(self._inbound.silent_ns(now_ns), now_ns - self._connected_ns)
        return silent_ns // 1_000_000

    def take_barge_ins(self) -> list[float]:
        """The times, in ms, of the barge-ins since this was asked last."""
        return self._quality.take_barge_ins()

    def _sum_up(self, stats: CallStats) -> CallQuality:
        return self._quality.sum_up(stats, self._inbound.jitter_ns, self._inbound.longest_gap_ns)

    # Driven by the media clock

    def send_frame(self) -> None:
        """One tick: audio if there is any, else silence."""
        frame = self._playout.pull()
        if frame is None:
            frame = SILENT_FRAME if self._link is not None else self._hold_frame()
        if self._tap is not None:
            self._tap.agent(self._outbound.position, frame)
        self._outbound.send(frame)
        if self._watching:
            self._look_after()

    def _hold_frame(self) -> bytes:
        """A frame of the hold sound while a lost voice server is reached again, else silence."""
        frames = self._settings.hold_frames
        if not frames or not self._connector.reconnecting:
            return SILENT_FRAME
        frame = frames[self._held_frames % len(frames)]
        self._held_frames += 1
        return frame

    def skip_frames(self, count: int) -> None:
        """Ticks that this worker was too late for."""
        self._outbound.skip(count)

    def receive(self, datagram: bytes, now_ns: int) -> None:
        """A datagram from Asterisk: the caller's voice."""
        payload = self._inbound.accept(datagram, now_ns)
        if not payload:  # dropped, or a packet without audio
            return
        if self._tap is not None:
            self._tap.caller(self._inbound.timestamp_ms * BYTES_PER_MS, payload)
        link = self._link
        if link is not None and link.writable:
            link.send(self._writer.media(payload, self._inbound.timestamp_ms))
        else:
            self._audio_dropped += len(self._held) == HELD_FRAMES
            self._held.append((payload, self._inbound.timestamp_ms))

    def receive_failed(self, error: OSError) -> None:
        """An ICMP error: Asterisk's port is closed. The supervisor hears of the end by ARI."""
        self._warn_once("rtp_receive_failed", error=error.strerror)

    def _look_after(self) -> None:
        """Note what was sent when, answer marks, and take more audio when there is room again."""
        quality = self._quality
        if quality.waiting:
            quality.sent(time.monotonic_ns(), audio=self._playout.played_bytes > 0)
        self._answer_marks(self._playout.passed())
        paused = self._link is not None and not self._link.reading
        resume_below = max(1, self._frames_limit - RESUME_BELOW_MS // PTIME_MS)
        if paused and self._link is not None and self._playout.queued_frames < resume_below:
            self._link.resume_reading()
            paused = False
        self._watching = paused or self._playout.pending_marks > 0 or quality.waiting

    def _answer_marks(self, marks: list[PassedMark]) -> None:
        if self._link is not None:
            for mark in marks:
                self._link.send(self._writer.mark(mark))

    # Called by the link

    def on_open(self, link: AgentLink) -> None:
        """Announce the stream, then what the caller said meanwhile."""
        took_ms = self._connector.connected()
        self._link = link
        link.send(agent_messages.CONNECTED)
        link.send(self._writer.start(resumed=self._resumed))
        self._resumed = True
        self.on_writable()
        self._report(StreamStarted(self.call.call_sid, took_ms))

    def on_text(self, data: memoryview) -> None:
        """A message of the voice server."""
        try:
            message = agent_messages.read(data)
            if type(message) is Media and message.streamSid == self._stream_sid:
                if self._playout.push(message.media.payload) > self._frames_limit:
                    self._hold_back()
                return
            agent_messages.check(message, self._stream_sid)
        except agent_messages.UNREADABLE as error:
            bad = agent_messages.explain(data, error)
            self._reject(bad.kind, str(bad))
            return
        except BadMessage as error:
            self._reject(error.kind, str(error))
            return
        self._act_on(message)

    def _act_on(self, message: AgentMessage) -> None:
        """Anything but audio, or audio that does not name its stream."""
        match message:
            case Media():
                if self._playout.push(message.media.payload) > self._frames_limit:
                    self._hold_back()
            case Mark():
                self._playout.mark(message.mark.name)
                self._watching = True
                self._answer_marks(self._playout.passed())
            case Clear():
                if self._playout.queued_bytes:
                    self._quality.cleared(time.monotonic_ns())
                self._answer_marks(self._playout.clear())
                self._watching = True
            case Dtmf():
                self._report(SendDigits(self.call.call_sid, message.dtmf.digit))

    def on_binary(self) -> None:
        """A message of a kind that the protocol doesn't have."""
        self._reject("binary", "binary WebSocket message")

    def on_writable(self) -> None:
        """The voice server takes audio again: what was held comes first."""
        while self._held and self._link is not None and self._link.writable:
            self._link.send(self._writer.media(*self._held.popleft()))

    def on_closed(self, code: int | None, reason: str) -> None:
        """The WebSocket is gone: the voice server's wish, or an accident to recover from."""
        if self._link is None:
            return
        self._link = None
        if code is not None and code not in DROPPED_LINK_CODES:
            self._report(StreamEnded(self.call.call_sid, f"closed with {code}", failed=False))
            return
        self._log.warning("stream_lost", code=code, reason=reason)
        self._reconnects += 1
        self._connector.connect(self)

    def _stream_failed(self, reason: str) -> None:
        self._report(StreamEnded(self.call.call_sid, reason, failed=True))

    def _hold_back(self) -> None:
        """So much audio waits that no more is taken until there is room."""
        self._warn_once("playout_full", limit_ms=self._settings.buffer_limit_ms)
        if self._link is not None:
            self._link.pause_reading()
        self._watching = True

    def _reject(self, kind: str, detail: str) -> None:
        self._bad_messages += 1
        self._warn_once(f"bad_message_{kind}", detail=detail)

    def _warn_once(self, event: str, **fields: object) -> None:
        if event not in self._warned:
            self._warned.add(event)
            self._log.warning(event, **fields)


def drain(sock: socket.socket) -> None:
    """Throw away what is queued on a non-blocking socket: `connect` leaves it there."""
    for _ in range(MAX_DRAINED):
        try:
            sock.recv(MAX_DATAGRAM_BYTES)
        except BlockingIOError:
            return
        except OSError as error:  # an ICMP error that an earlier packet brought back
            log.debug("rtp_drain_error", error=error.strerror)
