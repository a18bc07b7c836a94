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
from types import TracebackType
from typing import Final

import structlog

from shim.masking import masked

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


class _LibraryHandler(logging.Handler):
    """Log lines of libraries go the same way as ours.

    Of several lines the first one is taken: asyncio's others show objects with all they hold.
    """

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage().partition("\n")[0]
        error = {"exc_info": record.exc_info} if record.exc_info else {}
        structlog.get_logger().log(
            record.levelno, "library", logger=record.name, message=text, **error
        )


def hide_numbers(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Take phone numbers out of a line: reasons are written for whoever gave the order, too."""
    for name, value in event.items():
        event[name] = masked(value)
    return event


def log_crashes() -> None:
    """What would be a bare traceback at a process's or a thread's end becomes a log line."""
    sys.excepthook, threading.excepthook = _crashed, _thread_crashed
    sys.unraisablehook = _unraisable


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, Exception):
        structlog.get_logger().critical("crashed", exc_info=(kind, error, trace))
    else:
        sys.__excepthook__(kind, error, trace)


def _thread_crashed(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and args.exc_type is not SystemExit:
        _crashed(args.exc_type, args.exc_value, args.exc_traceback)


def _unraisable(args: "sys.UnraisableHookArgs") -> None:
    if args.exc_value is not None:
        _crashed(args.exc_type, args.exc_value, args.exc_traceback)


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
    logging.basicConfig(level=logging.WARNING, handlers=[_LibraryHandler()], force=True)
    log_crashes()
    return writer
