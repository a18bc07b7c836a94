"""Logging of all our processes: one event name and fields per line, to standard error.

`LOG_FORMAT=json` (the default) for machines, `text` for people. Phone numbers, audio and what
was said are never logged; what ends a process goes the same way as all else. Lines are written by a
thread of their own: a full disk or a reader that doesn't read must not stop the loop that paces
audio. What can't be written is counted.
"""

import atexit
import logging
import os
import queue
import sys
import threading
from typing import Final

import structlog

from shim.log_hooks import LibraryHandler, hide_numbers, log_crashes

MAX_WAITING_LINES: Final = 10_000
FLUSH_S: Final = 1.0
"""At the process's end the last lines have so long to be written."""


class LineWriter:
    """Writes lines to a file descriptor, in order, and never blocks who has one to write.

    `lost_lines` counts what found no room or could not be written.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._waiting: queue.Queue[bytes | threading.Event] = queue.Queue(MAX_WAITING_LINES)
        self.lost_lines = 0
        threading.Thread(target=self._work, name="log-writer", daemon=True).start()

    def write(self, line: str) -> None:
        """Take a line, without its end."""
        try:
            self._waiting.put_nowait(line.encode(errors="replace") + b"\n")
        except queue.Full:
            self.lost_lines += 1

    def flush(self, seconds: float) -> bool:
        """Wait until all lines so far are written, but no longer than that; whether they are."""
        reached = threading.Event()
        try:
            self._waiting.put(reached, timeout=seconds)
        except queue.Full:
            return False
        return reached.wait(seconds)

    def _work(self) -> None:
        while True:
            line = self._waiting.get()
            if isinstance(line, threading.Event):
                line.set()
                continue
            try:
                while line:
                    line = line[os.write(self._fd, line) :]
            except OSError:
                self.lost_lines += 1  # no room on the disk, or no reader: there is nobody to tell


class _LineLogger:
    """What structlog writes to: one method per level, each taking the finished line."""

    def __init__(self, writer: LineWriter) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = writer.write


def configure(log_format: str, level: str, **fields: object) -> LineWriter:
    """Set up structlog and the libraries' own logging; `fields` are on every line."""
    writer = LineWriter(sys.stderr.fileno())
    atexit.register(writer.flush, FLUSH_S)
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            hide_numbers,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=lambda *_: _LineLogger(writer),
    )
    structlog.contextvars.bind_contextvars(**fields)
    logging.basicConfig(level=logging.WARNING, handlers=[LibraryHandler()], force=True)
    log_crashes()
    return writer
