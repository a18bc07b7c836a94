"""`python -m voice_agent`: runs the voice server until SIGTERM or SIGINT.

Exit codes: 0 stopped by a signal, 78 (EX_CONFIG) a setting is not allowed, 1 can't listen.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from functools import partial
from typing import Final

import structlog
import uvloop
from dotenv import dotenv_values

from voice_agent.agent import AgentFactory
from voice_agent.agent_session import serve_call
from voice_agent.config import Config, ConfigError, read_config
from voice_agent.offline_agent import OfflineAgent
from voice_agent.server import ListenError, VoiceServer

AGENTS: Final[Mapping[str, AgentFactory]] = {"offline": OfflineAgent}
"""The values of AGENT. Add your own here."""


def main() -> int:
    """Run the voice server; the exit code is returned."""
    from_file = {name: value or "" for name, value in dotenv_values(".env").items()}
    try:
        config = read_config(from_file | os.environ, AGENTS)
    except ConfigError as error:
        sys.stderr.write(f"voice_agent: {error}\n")
        return os.EX_CONFIG
    _configure_logs()
    try:
        uvloop.run(_serve_until_signal(config))
    except ListenError as error:
        sys.stderr.write(f"voice_agent: {error}\n")
        return 1
    return 0


async def _serve_until_signal(config: Config) -> None:
    log = structlog.get_logger()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with VoiceServer(config, partial(serve_call, make_agent=AGENTS[config.agent])) as server:
        log.info(
            "listening",
            host=config.voice_agent_host,
            port=server.port,
            path=config.voice_agent_path,
            agent=config.agent,
        )
        await stop.wait()
        log.info("stopping", calls=server.health.calls)
    log.info("stopped", calls_total=server.health.calls_total)


def _configure_logs() -> None:
    """One line per event on stderr: for people on a terminal, JSON otherwise.

    Tracebacks are plain: structlog's pretty ones print local variables, thus callers' audio.
    """
    if sys.stderr.isatty():
        renderer: tuple[structlog.typing.Processor, ...] = (
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
        )
    else:
        renderer = (structlog.processors.format_exc_info, structlog.processors.JSONRenderer())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderer,
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


if __name__ == "__main__":
    sys.exit(main())
