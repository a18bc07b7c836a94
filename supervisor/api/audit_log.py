"""The audit log's file: lines are appended by a thread, so that a slow disk stalls nothing.

Each batch is written and synced under a lock on the file, and chained to what is at its end then:
two supervisors may share a log, and a file that was moved away is begun anew, its chain going on.
What can't be written waits, up to `MAX_WAITING_LINES`, and is tried again; beyond, lines are lost,
and the log itself says how many.
"""

import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import structlog
from msgspec import Struct

from shim.environment import ConfigError
from supervisor.api import audit_chain
from supervisor.api.audit_chain import LOST, Deed, Head

log = structlog.get_logger()

MAX_WAITING_LINES: Final = 10_000
MAX_LINE_BYTES: Final = 4096
RETRY_S: Final = 1.0
END_S: Final = 2.0
"""At the supervisor's end the last lines have so long to be written."""


class Health(Struct, frozen=True):
    """How the log does: lines written and lost since the start, and what is wrong now."""

    path: str
    written: int
    waiting: int
    lost: int
    problem: str


class AuditLog:
    """Takes what was done, and never blocks who tells it.

    Raises:
        ConfigError: the file can't be opened for appending.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._head = Head()
        self._waiting: deque[tuple[Deed, float]] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._written = 0
        self._lost = 0
        self._untold = 0
        self.problem = ""
        """Why lines can't be written at present; empty if they can."""
        try:
            with self._locked_file():
                pass
        except OSError as error:
            raise ConfigError(
                f"AUDIT_LOG is {str(path)!r}: {error.strerror}; allowed is a file that can be "
                "written, or off"
            ) from error
        self._thread = threading.Thread(target=self._work, name="audit-log", daemon=True)
        self._thread.start()

    def record(self, deed: Deed) -> None:
        """Take a line to be written, as of now."""
        with self._wake:
            if len(self._waiting) >= MAX_WAITING_LINES:
                self._lost += 1
                self._untold += 1
                return
            self._waiting.append((deed, time.time()))
            self._wake.notify()

    def health(self) -> Health:
        """How it does."""
        with self._wake:
            return Health(
                str(self._path), self._written, len(self._waiting), self._lost, self.problem
            )

    def close(self) -> None:
        """Write what is waiting, within `END_S`, and let the thread end."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(END_S)

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._closed)
                if self._untold:
                    self._waiting.append((self._loss(), time.time()))
                    self._untold = 0
                batch = list(self._waiting)
            if not batch:
                return
            try:
                self._append(batch)
            except OSError as error:
                self._failed(error)
                if self._closed:
                    return
                time.sleep(RETRY_S)
            else:
                self._succeeded(len(batch))

    def _failed(self, error: OSError) -> None:
        reason = error.strerror or str(error)
        if reason != self.problem:
            log.error("audit_log_not_written", path=str(self._path), reason=reason)
        self.problem = reason

    def _succeeded(self, lines: int) -> None:
        if self.problem:
            log.warning("audit_log_written_again", path=str(self._path), lost_lines=self._lost)
        self.problem = ""
        with self._wake:
            self._written += lines
            for _ in range(lines):
                self._waiting.popleft()

    def _loss(self) -> Deed:
        return Deed(action=LOST, outcome=f"lost:{self._untold}", actor="supervisor")

    def _append(self, batch: list[tuple[Deed, float]]) -> None:
        """Write a batch whole, or take it back; raises OSError."""
        with self._locked_file() as file:
            end = os.fstat(file).st_size
            rest, head = self._end_of(file, end)
            lines = []
            if rest:
                note, head = audit_chain.append(head, audit_chain.torn(rest), time.time())
                lines = [b"\n", note]
            for deed, unix_s in batch:
                line, head = audit_chain.append(head, deed, unix_s)
                lines.append(line)
            try:
                _write(file, b"".join(lines))
                os.fdatasync(file)
            except OSError:
                with suppress(OSError):  # if it stays, it is a torn line, and will be noted as one
                    os.ftruncate(file, end)
                raise
            self._head = head

    def _end_of(self, file: int, end: int) -> tuple[bytes, Head]:
        """What a crash has left of a line, and the last whole line's head."""
        start = max(0, end - 2 * MAX_LINE_BYTES)
        *whole, rest = os.pread(file, end - start, start).split(b"\n")
        for line in reversed(whole):
            try:
                entry, digest = audit_chain.read_line(line)
            except ValueError:
                continue  # the check of the whole file tells of it
            return rest, Head(entry.seq, digest)
        return rest, self._head

    @contextmanager
    def _locked_file(self) -> Iterator[int]:
        """The file as it is now at this path, for this process alone."""
        file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
