"""Voice servers to talk to."""

from collections.abc import AsyncIterator
from functools import partial

import pytest

from voice_agent.agent import AgentFactory
from voice_agent.agent_session import serve_call
from voice_agent.config import Config
from voice_agent.offline_agent import OfflineAgent
from voice_agent.server import VoiceServer


def serving(make_agent: AgentFactory) -> VoiceServer:
    """A voice server in this process, at a free port, to be entered."""
    return VoiceServer(Config(voice_agent_port=0), partial(serve_call, make_agent=make_agent))


@pytest.fixture
async def server() -> AsyncIterator[VoiceServer]:
    """A voice server with the offline agent."""
    async with serving(OfflineAgent) as server:
        yield server
