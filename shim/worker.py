"""A worker process: takes calls from the supervisor and serves them until it is told to stop.

It outlives the supervisor: when the control connection breaks, media goes on, and the worker
tries to find a supervisor again until `ORPHAN_GRACE` is over.
"""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from shim import control
from shim.agent_link import AgentLink
from shim.call_session import CallSession, StreamSettings
from shim.config import ShimConfig
from shim.control import (
    SOCKET_NAME,
    CallRefused,
    CallsNow,
    CallSpec,
    EndCall,
    FromWorker,
    HeldCall,
    Hello,
    MediaConnected,
    PressDigit,
    RecordingStats,
    ReleaseCall,
    StartCall,
    StartRecording,
    StopRecording,
    StopWorker,
    ToWorker,
    WorkerStats,
)
from shim.control_channel import ControlChannel
from shim.link_opener import LinkOpener
from shim.media_clock import MediaClock
from shim.port_memory import PortMemory
from shim.recording_writer import RecordingWriter
from shim.worker_figures import WorkerFigures

log = structlog.get_logger()

HEARTBEAT_S: Final = 0.1
HEARTBEAT_NS: Final = 100_000_000
STATS_S: Final = 1.0
CALLS_AT_ONCE: Final = 50
"""So many calls are looked at before audio gets its turn again: about half a millisecond."""
RECONNECT_S: Final = 0.25
"""Pause between two tries to find the supervisor."""
CLOSE_TIMEOUT_S: Final = 3.0
"""At its end a worker waits so long for the close handshakes of its streams."""

WRITE_TIMEOUT_S: Final = 2.0
"""... and so long for the disk to take what was recorded."""


class Place(msgspec.Struct, frozen=True):
    """Which worker this is: the slot's number, and the seat that it has there.

    `cpus` are those of this machine that it may use; its own loop stays on one of them.
    """

    worker: int
    seat: int
    cpus: frozenset[int]


class Worker:
    """Serves calls on one event loop.

    Args:
        place: its slot and seat, which are those of its heartbeat in the port table.
        memory: the port table.
        config: its settings; the supervisor listens in `config.run_dir`.
        settings, opener: what its calls' streams share.
    """

    def __init__(
        self,
        place: Place,
        memory: PortMemory,
        config: ShimConfig,
        settings: StreamSettings,
        opener: LinkOpener,
    ) -> None:
        self._place = place
        self._socket_path = Path(config.run_dir) / SOCKET_NAME
        self._memory = memory
        self._config = config
        self._settings = settings
        self._opener = opener
        self._clock = MediaClock()
        self._sessions: dict[str, CallSession] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._figures = WorkerFigures()
        self._recordings: RecordingWriter | None = None
        self._channel: ControlChannel[ToWorker] | None = None
        self._lost = asyncio.Event()
        self._stopping = asyncio.Event()
        self._terminated = False

    async def run(self) -> None:
        """Serve until the supervisor says stop, or none is found within `ORPHAN_GRACE`."""
        loop = asyncio.get_running_loop()
        if self._config.recording_dir:
            self._recordings = RecordingWriter(self._place.worker, self._place.cpus)
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._on_terminate)
        tasks = [asyncio.create_task(work()) for work in (self._beat, self._tell, self._attend)]
        await self._stopping.wait()
        for task in tasks:
            task.cancel()
        for call_sid in list(self._sessions):
            self._end(call_sid)
        if self._closing:
            await asyncio.wait(self._closing, timeout=CLOSE_TIMEOUT_S)
        self._report(self._stats([]))
        if self._channel is not None:
            self._channel.close()
        self._clock.close()
        if self._recordings is not None:
            self._recordings.close(WRITE_TIMEOUT_S)
        log.info("worker_stopped")

    def _on_terminate(self) -> None:
        """A signal to the process group is the supervisor's to act on, as long as it lives."""
        self._terminated = True
        if self._channel is None:
            self._stopping.set()

    async def _beat(self) -> None:
        """Show that this loop, the one that paces audio, is alive."""
        place = (self._place.worker, self._place.seat)
        while True:
            now_ns = time.monotonic_ns()
            self._memory.layout.beat(*place, now_ns)
            await asyncio.sleep(HEARTBEAT_S)
            self._figures.woke(now_ns + HEARTBEAT_NS)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(STATS_S)
            await self._tell_of_calls()
            self._report(self._stats(self._sessions.values()))

    async def _tell_of_calls(self) -> None:
        """Some at a time, as what is measured must not hold up what is heard."""
        names = list(self._sessions)
        for start in range(0, len(names), CALLS_AT_ONCE):
            some = map(self._sessions.get, names[start : start + CALLS_AT_ONCE])
            looked_at = [self._figures.look_at(session) for session in some if session is not None]
            self._report(CallsNow(looked_at))
            await asyncio.sleep(0)

    async def _attend(self) -> None:
        """Keep the connection to a supervisor; give up when there is none for too long."""
        deadline = time.monotonic() + self._config.orphan_grace
        while time.monotonic() < deadline and not self._terminated:
            try:
                sock = _connect(self._socket_path)
            except OSError as error:
                log.debug("supervisor_unreachable", error=error.strerror)
                await asyncio.sleep(RECONNECT_S)
                continue
            self._lost.clear()
            self._channel = ControlChannel(
                sock, control.decode_to_worker, self._on_message, self._on_lost
            )
            self._introduce(self._channel)
            await self._lost.wait()
            deadline = time.monotonic() + self._config.orphan_grace
        log.warning("worker_orphaned", calls=len(self._sessions))
        self._stopping.set()

    def _introduce(self, channel: ControlChannel[ToWorker]) -> None:
        cpus = sorted(os.sched_getaffinity(0))
        table_id = self._memory.layout.table_id
        place = self._place
        calls = len(self._sessions)
        channel.send(Hello(place.worker, place.seat, os.getpid(), cpus, table_id, calls))
        for session in self._sessions.values():
            channel.send(HeldCall(session.call, session.media_connected), session.rtp)

    def _on_lost(self, reason: str) -> None:
        self._channel = None
        self._lost.set()
        if not self._stopping.is_set():
            log.warning("supervisor_lost", reason=reason, calls=len(self._sessions))

    def _report(self, message: FromWorker) -> None:
        if self._channel is not None:
            self._channel.send(message)

    def _on_message(self, message: ToWorker, passed: socket.socket | None) -> None:
        match message:
            case StartCall():
                self._start(message, passed)
            case EndCall():
                self._end(message.call_sid)
            case ReleaseCall():
                self._release(message.call_sid)
            case StopWorker():
                self._stopping.set()
            case _:
                if session := self._sessions.get(message.call_sid):
                    self._pass_on(message, session)

    def _pass_on(
        self,
        message: MediaConnected | PressDigit | StartRecording | StopRecording,
        session: CallSession,
    ) -> None:
        """Let a call's session do what the supervisor says."""
        match message:
            case MediaConnected():
                session.connect_media(self._clock)
                self._record_if_wanted(session)
            case PressDigit():
                session.press_digit(message.digit)
            case StartRecording():
                session.call = msgspec.structs.replace(session.call, record=True)
                self._record_if_wanted(session)
            case StopRecording():
                session.call = msgspec.structs.replace(session.call, record=False)
                session.stop_recording()

    def _start(self, message: StartCall, rtp: socket.socket | None) -> None:
        call = message.call
        if rtp is None:  # or there was no descriptor free for it
            self._report(CallRefused(call.call_sid, "no RTP socket came along"))
            return
        try:
            words = self._words_for(call)
        except LookupError as error:
            rtp.close()
            self._report(CallRefused(call.call_sid, str(error)))
            return
        session = CallSession(message, rtp, words, self._settings, self._opener, self._report)
        self._sessions[call.call_sid] = session
        if message.media_connected:
            session.connect_media(self._clock)  # first: the caller hears the gap, not the stream's
            self._record_if_wanted(session)
        session.start()

    def _record_if_wanted(self, session: CallSession) -> None:
        """Record a call that shall be, once there is something to hear."""
        if not (session.call.record and session.media_connected):
            return
        if self._recordings is None:
            log.error("recording_not_configured", call_id=session.call.call_sid)
        else:
            session.start_recording(self._recordings)

    def _words_for(self, call: CallSpec) -> memoryview:
        if call.call_sid in self._sessions:
            raise LookupError("the call is here already")
        return self._memory.layout.stream_words(call.port)

    def _end(self, call_sid: str) -> None:
        if session := self._sessions.pop(call_sid, None):
            self._hold(session.end(self._clock))
            self._figures.ended(session)

    def _release(self, call_sid: str) -> None:
        if session := self._sessions.pop(call_sid, None):
            self._hold(session.release(self._clock))
            self._figures.ended(session)

    def _hold(self, link: AgentLink | None) -> None:
        """Keep hold of a link until its close handshake is over."""
        if link is None:
            return
        task = asyncio.create_task(link.wait_closed())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _stats(self, sessions: Iterable[CallSession]) -> WorkerStats:
        recording = self._recordings.stats if self._recordings else RecordingStats()
        return self._figures.stats(sessions, self._clock.pacer, recording)


def _connect(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.connect(str(path))
    except OSError:
        sock.close()
        raise
    return sock
