"""Logging to standard error: one event name and fields per line, numbers masked.

For people on a terminal, JSON otherwise. Tracebacks are plain: structlog's pretty ones print local
variables, thus callers' audio. What libraries log, and what ends the process, goes the same way.
"""

import logging
import sys

import structlog

from voice_agent.log_hooks import LibraryHandler, hide_numbers, log_crashes


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
    logging.basicConfig(level=logging.WARNING, handlers=[LibraryHandler()], force=True)
    log_crashes()
