"""Logging of all our processes: one event name and fields per line, to standard error.

`LOG_FORMAT=json` (the default) for machines, `text` for people. Phone numbers, audio and what
was said are never logged.
"""

import logging
import sys

import structlog


def configure(log_format: str, level: str, **fields: object) -> None:
    """Set up structlog and the libraries' own logging; `fields` are on every line."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(**fields)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, force=True)
