"""`python -m voice_agent`: runs the voice server until SIGTERM or SIGINT.

Exit codes: 0 stopped by a signal, 78 (EX_CONFIG) a setting is not allowed, 1 can't listen.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import structlog
import uvloop
from dotenv import dotenv_values

from voice_agent import core_dumps, log_setup
from voice_agent.agent import AgentFactory
from voice_agent.agent_session import serve_call
from voice_agent.config import Config, ConfigError, read_config
from voice_agent.offline_agent import OfflineAgent
from voice_agent.openai_agent import OpenAiAgents
from voice_agent.server import ListenError, VoiceServer
from voice_agent.voice_detector import VoiceDetector

AGENTS: Final[Mapping[str, Callable[[Config], AgentFactory]]] = {
    "offline": lambda config: partial(_offline_agent, config.voice_agent_vad),
    "openai": OpenAiAgents,
}
"""The values of AGENT, and what makes the agents of calls from the settings. Add your own here."""
KEY: Final = "OPENAI_API_KEY"


def main() -> int:
    """Run the voice server; the exit code is returned."""
    from_file = {name: value or "" for name, value in dotenv_values(".env").items()}
    try:
        config = read_config(_with_key(from_file | os.environ), AGENTS)
    except ConfigError as error:
        sys.stderr.write(f"voice_agent: {error}\n")
        return os.EX_CONFIG
    log_setup.configure()
    if not config.core_dumps:
        core_dumps.forbid()
    try:
        uvloop.run(_serve_until_signal(config))
    except ListenError as error:
        sys.stderr.write(f"voice_agent: {error}\n")
        return 1
    return 0


def _with_key(environ: Mapping[str, str]) -> Mapping[str, str]:
    """The environment with the key from OPENAI_API_KEY_FILE, if it has none of its own.

    Raises:
        ConfigError: the file can't be read.
    """
    path = environ.get(f"{KEY}_FILE")
    if not path or environ.get(KEY):
        return environ
    try:
        return {**environ, KEY: Path(path).read_text(encoding="utf-8").strip()}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{KEY}_FILE is {path!r}: allowed is a readable text file: {error}"
        ) from error


def _offline_agent(vad: str) -> OfflineAgent:
    return OfflineAgent(VoiceDetector().is_voice if vad == "webrtc" else None)


async def _serve_until_signal(config: Config) -> None:
    log = structlog.get_logger()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    make_agent = AGENTS[config.agent](config)
    serve = partial(serve_call, make_agent=make_agent, idle_s=config.voice_agent_idle_s)
    async with VoiceServer(config, serve) as server:
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


if __name__ == "__main__":
    sys.exit(main())
