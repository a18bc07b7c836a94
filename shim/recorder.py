"""`python -m shim.recorder`: writes the recordings of one worker, which is its parent.

A process of its own: a thread in the worker would compete with its pacer for the interpreter's lock
and for its CPU. Chunks come as messages on standard input, a SEQPACKET socket; its end of file is
this process's end, also when the worker was killed: all that had been handed over is written. What
the disk doesn't take is lost, and counted; counters go back on the same socket.

A file is locked (flock(2)) as long as it is being written, so others can tell that it is
unfinished; the file that ends a recording is renamed, and synced to the disk.
"""

import argparse
import fcntl
import os
import signal
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from shim import core_dumps, environment, log_setup, recording_messages
from shim.config import ShimConfig
from shim.control import RecordingStats
from shim.environment import ConfigError
from shim.pcmu import BYTES_PER_MS
from shim.recording_format import LAST_SUFFIX, SUFFIX, Header, Run, Sealer, Track, file_name
from shim.recording_keys import KEY_BYTES
from shim.recording_messages import MAX_MESSAGE_BYTES, Closing, RecordedChunk
from shim.recording_settings import RecordingSettings

log = structlog.get_logger()

EXIT_CONFIG: Final = 78
"""EX_CONFIG of sysexits.h: starting again won't help."""
MEASURE_S: Final = 5.0
"""How old the measured size of the directory may be."""
STATS_S: Final = 1.0
SAMPLES_PER_S: Final = 1000 * BYTES_PER_MS


class Recorder:
    """Writes chunks into the files that they belong to, one per call. `stats`: counters so far."""

    def __init__(self, settings: RecordingSettings) -> None:
        self._settings = settings
        self._files: dict[str, _File] = {}
        self._measured_s = -MEASURE_S
        self._used_bytes = 0
        self.stats = RecordingStats()

    def take(self, chunk: RecordedChunk) -> None:
        """Write a chunk; what fails is counted, and said once per file."""
        file = self._files.get(chunk.call_sid)
        if file is None:
            file = self._files[chunk.call_sid] = _File(chunk)
        try:
            self._write(file, [Run(*run) for run in chunk.runs])
        except OSError as error:
            self._count(lost_chunks=1)
            file.warn_once("recording_not_written", error)
        if chunk.closing is not None:
            file.close(final=chunk.closing is Closing.FINAL)
            del self._files[chunk.call_sid]

    def close(self) -> None:
        """The worker is gone: others go on with its calls."""
        for file in self._files.values():
            file.close(final=False)
        self._files.clear()

    def _write(self, file: "_File", runs: list[Run]) -> None:
        if not runs or file.refused:
            return
        if not file.is_open:
            if self._is_full():
                file.refused = True
                self._count(refused=1)
                log.error("recording_refused", call_id=file.call_sid, used_bytes=self._used_bytes)
                return
            file.open(self._settings)
        size_bytes = file.append(runs)
        self._used_bytes += size_bytes
        self._count(written_bytes=size_bytes)

    def _count(self, *, written_bytes: int = 0, lost_chunks: int = 0, refused: int = 0) -> None:
        self.stats = RecordingStats(
            self.stats.written_bytes + written_bytes,
            self.stats.lost_chunks + lost_chunks,
            self.stats.refused + refused,
        )

    def _is_full(self) -> bool:
        """Whether the directory has its size; what others write shows within MEASURE_S."""
        if time.monotonic() - self._measured_s >= MEASURE_S:
            self._used_bytes = _size_bytes(self._settings.directory)
            self._measured_s = time.monotonic()
        return self._used_bytes >= self._settings.max_bytes


class _File:
    """One file of a recording. It begins where its first chunk does."""

    def __init__(self, chunk: RecordedChunk) -> None:
        self.call_sid = chunk.call_sid
        self.refused = False
        self._account_sid = chunk.account_sid
        self._start = min(
            (position for track, position, _ in chunk.runs if track == Track.AGENT),
            default=chunk.runs[0][1] if chunk.runs else 0,
        )
        started_at = datetime.fromtimestamp(chunk.epoch_at + self._start / SAMPLES_PER_S, UTC)
        self._started_at = started_at.isoformat(timespec="milliseconds")
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


def serve(sock: socket.socket, recorder: Recorder) -> None:
    """Write until the other end is closed, and tell it once a second what was counted."""
    told_s = time.monotonic()
    while message := sock.recv(MAX_MESSAGE_BYTES):
        recorder.take(recording_messages.decode_chunk(message))
        if time.monotonic() - told_s >= STATS_S:
            told_s = time.monotonic()
            try:
                sock.send(recording_messages.encode(recorder.stats), socket.MSG_DONTWAIT)
            except OSError as error:  # the worker is busy or gone; newer counters follow
                log.debug("recorder_stats_not_sent", error=error.strerror)
    recorder.close()


def main() -> int:
    """Run the recorder; returns the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m shim.recorder", description=__doc__)
    parser.add_argument("--worker", type=int, required=True, help="number of the worker, from 0")
    parser.add_argument("--cpus", type=int, nargs="+", required=True, help="the CPUs to run on")
    arguments = parser.parse_args()
    for name in (signal.SIGTERM, signal.SIGINT):  # meant for all; this ends after its worker
        signal.signal(name, signal.SIG_IGN)
    try:
        config = environment.read(ShimConfig, os.environ)
        log_setup.configure(
            config.log_format, config.log_level, process="recorder", worker=arguments.worker
        )
        if not config.core_dumps:
            core_dumps.forbid()
        settings = config.recording_settings()
        if settings is None:
            raise ConfigError("RECORDING_DIR is not set, and there is no default")
    except ConfigError as error:
        log.error("recorder_cannot_start", reason=str(error))
        return EXIT_CONFIG
    os.sched_setaffinity(0, arguments.cpus)
    os.setpriority(os.PRIO_PROCESS, 0, max(0, os.getpriority(os.PRIO_PROCESS, 0)))
    with socket.socket(fileno=sys.stdin.fileno()) as sock:
        serve(sock, Recorder(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
