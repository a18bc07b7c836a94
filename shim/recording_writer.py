"""Writes recordings: one thread per worker, so that a slow disk never holds up audio.

The loop hands over about one chunk per call and second, and never waits: what the thread can't
take or the disk doesn't is lost, and counted. A file is locked (flock(2)) as long as its worker
lives and writes it, so others can tell that it is unfinished; the file that ends a recording is
renamed. What was written survives the death of this process. It is synced to the disk at the end.
"""

import fcntl
import os
import queue
import threading
import time
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
import structlog

from shim.control import CallSpec, RecordingStats
from shim.recording_format import LAST_SUFFIX, SUFFIX, Header, Run, Sealer, Track, file_name
from shim.recording_keys import KEY_BYTES, WrappingKey
from shim.recording_tap import RecordingTap, Runs, joined

log = structlog.get_logger()

MAX_WAITING: Final = 1024
"""Chunks that may wait for the disk: 10 s of a hundred calls, 16 MB."""
MEASURE_S: Final = 5.0
"""How old the measured size of the directory may be."""


class RecordingSettings(msgspec.Struct, frozen=True):
    """Where recordings go, and what seals them. A directory that is full takes no new ones."""

    directory: Path
    key: WrappingKey
    max_bytes: int


class Closing(Enum):
    """Why a file is closed: the recording is over, or another worker goes on with it."""

    FINAL = "final"
    HANDED_ON = "handed on"


class Recording:
    """A call that is being recorded: frames go into `tap`, until `end`."""

    def __init__(self, writer: "RecordingWriter", file: "_File") -> None:
        self._writer = writer
        self._file = file
        self.tap = RecordingTap(self._write)

    def end(self, position: int, *, final: bool) -> None:
        """Close the file at a position; `final`: it is the recording's end, not only our part."""
        self.tap.flush()
        runs: Runs = [(Track.END, position, [])] if final else []
        self._writer.put(self._file, runs, Closing.FINAL if final else Closing.HANDED_ON)

    def _write(self, runs: Runs) -> None:
        self._writer.put(self._file, runs)


class RecordingWriter:
    """The thread and its queue, from the start to `close`."""

    def __init__(self, settings: RecordingSettings) -> None:
        self._settings = settings
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._measured_s = -MEASURE_S
        self._used_bytes = 0
        self._written_bytes = 0
        self._lost_chunks = 0
        self._refused = 0
        self._lagging = False
        self._thread = threading.Thread(target=self._work, name="recordings", daemon=True)
        self._thread.start()

    @property
    def stats(self) -> RecordingStats:
        """Counters since the worker's start."""
        return RecordingStats(self._written_bytes, self._lost_chunks, self._refused)

    def begin(self, call: CallSpec, start: int) -> Recording:
        """Record a call from a position on; returns at once, whatever the disk does."""
        started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        return Recording(self, _File(call, start, started_at))

    def put(self, file: "_File", runs: Runs, closing: Closing | None = None) -> None:
        """Take a chunk. One that is the file's last is taken even without room."""
        if self._jobs.qsize() < MAX_WAITING or closing:
            self._jobs.put((file, runs, closing))
            return
        self._lost_chunks += 1
        if not self._lagging:
            self._lagging = True
            log.error("recordings_lag", waiting_chunks=MAX_WAITING)

    def close(self, seconds: float) -> None:
        """Write what waits, but for no longer than that."""
        self._jobs.put(None)
        self._thread.join(seconds)
        if self._thread.is_alive():
            log.error("recordings_unfinished", waiting_chunks=self._jobs.qsize())

    # In the thread

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            file, runs, closing = job
            try:
                self._write(file, joined(runs))
            except OSError as error:
                self._lost_chunks += bool(runs)
                file.warn_once("recording_not_written", error)
            if closing is not None:
                file.close(final=closing is Closing.FINAL)

    def _write(self, file: "_File", runs: list[Run]) -> None:
        if not runs or file.refused:
            return
        if not file.is_open:
            if self._is_full():
                file.refused = True
                self._refused += 1
                log.error("recording_refused", call_id=file.call_sid, used_bytes=self._used_bytes)
                return
            file.open(self._settings)
        size_bytes = file.append(runs)
        self._written_bytes += size_bytes
        self._used_bytes += size_bytes

    def _is_full(self) -> bool:
        """Whether the directory has its size; what others write shows within MEASURE_S."""
        if time.monotonic() - self._measured_s >= MEASURE_S:
            self._used_bytes = _size_bytes(self._settings.directory)
            self._measured_s = time.monotonic()
        return self._used_bytes >= self._settings.max_bytes


class _File:
    """One file of a recording; opened by its first chunk, in the thread."""

    def __init__(self, call: CallSpec, start: int, started_at: str) -> None:
        self.call_sid = call.call_sid
        self.refused = False
        self._account_sid = call.account_sid
        self._start = start
        self._started_at = started_at
        self._fd = -1
        self._path: Path
        self._sealer: Sealer
        self._size_bytes = 0
        self._warned = False

    @property
    def is_open(self) -> bool:
        """Whether there is a file to append to."""
        return self._fd >= 0

    def open(self, settings: RecordingSettings) -> None:
        """Create the file; raises OSError."""
        data_key = os.urandom(KEY_BYTES)
        key = settings.key
        header = Header(
            call_sid=self.call_sid,
            account_sid=self._account_sid,
            start=self._start,
            started_at=self._started_at,
            key_id=key.key_id,
            wrapped_key=key.wrap(data_key),
            kms_ciphertext=key.kms_ciphertext,
        )
        path = settings.directory / file_name(self.call_sid, self._start)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            sealer = Sealer(header, data_key)
            _write_all(fd, sealer.head)
        except OSError:
            os.close(fd)
            path.unlink()
            raise
        self._fd, self._path = fd, path
        self._sealer, self._size_bytes = sealer, len(sealer.head)

    def append(self, runs: list[Run]) -> int:
        """Seal and write a chunk, or none of it; its size. Raises OSError."""
        chunk = self._sealer.seal(runs)
        try:
            _write_all(self._fd, chunk)
        except OSError:
            os.ftruncate(self._fd, self._size_bytes)
            os.lseek(self._fd, 0, os.SEEK_END)
            raise
        self._size_bytes += len(chunk)
        return len(chunk)

    def close(self, *, final: bool) -> None:
        """Sync and close, which unlocks; the end of a recording shows in the file's name."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            os.fsync(fd)
            if final:
                self._path.rename(self._path.with_suffix(LAST_SUFFIX))
        except OSError as error:
            self.warn_once("recording_not_synced", error)
        finally:
            os.close(fd)

    def warn_once(self, event: str, error: OSError) -> None:
        """Say it once per file."""
        if not self._warned:
            self._warned = True
            log.error(event, call_id=self.call_sid, reason=error.strerror)


_Job: TypeAlias = tuple[_File, Runs, Closing | None]
"""A file, its next runs, and what comes after them."""


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _size_bytes(directory: Path) -> int:
    """How much room recordings take; a file that goes away meanwhile takes none."""
    total = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX):
                try:
                    total += entry.stat().st_size
                except FileNotFoundError:
                    continue
    return total
