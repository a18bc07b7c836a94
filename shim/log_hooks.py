"""What all that is logged passes through: masking, libraries' lines, and what ends a process.

`voice_agent/log_hooks.py` is its copy: that package takes nothing from here.
"""

import logging
import sys
import threading
from types import TracebackType

import structlog

from shim.masking import masked


class LibraryHandler(logging.Handler):
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
