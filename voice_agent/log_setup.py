"""Logging to standard error: one event name and fields per line, numbers masked.

For people on a terminal, JSON otherwise. Tracebacks are plain: structlog's pretty ones print local
variables, thus callers' audio. What libraries log, and what ends the process, goes the same way.
"""

import logging
import sys
import threading
from types import TracebackType

import structlog

from voice_agent.masking import masked


class _LibraryHandler(logging.Handler):
    """Of several lines the first one is taken: asyncio's others show objects with all they hold."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage().partition("\n")[0]
        error = {"exc_info": record.exc_info} if record.exc_info else {}
        structlog.get_logger().log(
            record.levelno, "library", logger=record.name, message=text, **error
        )


def hide_numbers(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Take phone numbers out of a line."""
    for name, value in event.items():
        event[name] = masked(value)
    return event


def configure() -> None:
    """Set up structlog, the libraries' logging, and what is done with uncaught exceptions."""
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
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
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_LibraryHandler()], force=True)
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
