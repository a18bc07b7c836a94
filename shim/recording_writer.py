"""A worker's end of its recorder: hands chunks over, and never waits for a disk.

The recorder is a process of its own (`shim.recorder`). What it can't take waits here; when too much
does, what is new is lost, and counted. One that dies is started again, and goes on in new files.
"""

import asyncio
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Collection
from typing import Final

import structlog

from shim import recording_messages
from shim.control import CallSpec, RecordingStats
from shim.recording_format import Track
from shim.recording_messages import MAX_MESSAGE_BYTES, Closing, RecordedChunk
from shim.recording_tap import RecordingTap, Runs, joined

log = structlog.get_logger()

MAX_WAITING: Final = 1024
"""Chunks that may wait for the recorder: 10 s of a hundred calls, 16 MB."""
RESTART_S: Final = 1.0


class Recording:
    """A call that is being recorded: frames go into `tap`, until `end`."""

    def __init__(self, writer: "RecordingWriter", call: CallSpec) -> None:
        self._writer = writer
        self._call = call
        self._epoch_at = time.time() - (time.monotonic_ns() - call.epoch_ns) / 1e9
        self.tap = RecordingTap(self._write)

    def end(self, position: int, *, final: bool) -> None:
        """Close the file at a position; `final`: it is the recording's end, not only our part."""
        self.tap.flush()
        runs: Runs = [(Track.END, position, [])] if final else []
        self._write(runs, Closing.FINAL if final else Closing.HANDED_ON)

    def _write(self, runs: Runs, closing: Closing | None = None) -> None:
        call = self._call
        self._writer.put(
            RecordedChunk(call.call_sid, call.account_sid, self._epoch_at, joined(runs), closing)
        )


class RecordingWriter:
    """The recorder process and the way to it, from the start to `close`.

    Args:
        worker: the worker's number.
        cpus: where the recorder may run; not only on the worker's own CPU.
    """

    def __init__(self, worker: int, cpus: Collection[int]) -> None:
        self._command = [sys.executable, "-m", "shim.recorder", "--worker", str(worker)]
        self._command += ["--cpus", *map(str, sorted(cpus))]
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[bytes] = deque()
        self._lost_chunks = 0
        self._lagging = False
        self._past = RecordingStats()
        self._now = RecordingStats()
        self._restart: asyncio.TimerHandle | None = None
        self._sock: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._start()

    @property
    def stats(self) -> RecordingStats:
        """Counters since the worker's start."""
        past, now = self._past, self._now
        return RecordingStats(
            past.written_bytes + now.written_bytes,
            past.lost_chunks + now.lost_chunks + self._lost_chunks,
            past.refused + now.refused,
        )

    def begin(self, call: CallSpec) -> Recording:
        """Record a call from now on."""
        return Recording(self, call)

    def put(self, chunk: RecordedChunk) -> None:
        """Take a chunk. One that closes a file is taken even without room."""
        if len(self._waiting) >= MAX_WAITING and chunk.closing is None:
            self._lost_chunks += 1
            if not self._lagging:
                self._lagging = True
                log.error("recordings_lag", waiting_chunks=MAX_WAITING)
            return
        self._waiting.append(recording_messages.encode(chunk))
        if len(self._waiting) == 1:
            self._write()

    def close(self, seconds: float) -> None:
        """Hand over what waits and let the recorder write it, but for no longer than that.

        It blocks. A recorder that is slower goes on alone.
        """
        if self._restart is not None:
            self._restart.cancel()
        deadline = time.monotonic() + seconds
        sock, process = self._disconnect()
        if sock is None or process is None:
            return
        with sock:
            sock.settimeout(seconds)
            try:
                while self._waiting:
                    sock.send(self._waiting.popleft())
            except OSError as error:
                log.error("recordings_unfinished", reason=str(error))
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("recorder_still_writes", pid=process.pid)

    def _start(self) -> None:
        """Start a recorder; without one, try again later."""
        self._restart = None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = subprocess.Popen(self._command, stdin=theirs.fileno())
            except OSError as error:
                ours.close()
                log.error("recorder_not_started", reason=error.strerror)
                self._restart = self._loop.call_later(RESTART_S, self._start)
                return
        ours.setblocking(False)
        self._sock = ours
        self._loop.add_reader(ours, self._read)
        self._write()

    def _disconnect(self) -> tuple[socket.socket | None, "subprocess.Popen[bytes] | None"]:
        sock, self._sock = self._sock, None
        if sock is not None:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)
        return sock, self._process

    def _lost(self, reason: str) -> None:
        """The recorder is dead; what it had not written is lost."""
        sock, process = self._disconnect()
        if sock is not None:
            sock.close()
        code = process.poll() if process is not None else None
        log.error("recorder_lost", reason=reason, exit_code=code)
        past = self.stats
        self._past = RecordingStats(
            past.written_bytes, past.lost_chunks - self._lost_chunks, past.refused
        )
        self._now = RecordingStats()
        self._restart = self._loop.call_later(RESTART_S, self._start)

    def _write(self) -> None:
        sock = self._sock
        while self._waiting and sock is not None:
            try:
                sock.send(self._waiting[0])
            except BlockingIOError:
                self._loop.add_writer(sock, self._write)
                return
            except OSError as error:
                self._lost(f"sending failed: {error.strerror}")
                return
            self._waiting.popleft()
        if sock is not None:
            self._loop.remove_writer(sock)
        self._lagging = False

    def _read(self) -> None:
        assert self._sock is not None, "there is a reader only as long as there is a socket"
        try:
            data = self._sock.recv(MAX_MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(f"receiving failed: {error.strerror}")
            return
        if data:
            self._now = recording_messages.decode_stats(data)
        else:
            self._lost("end of file")
