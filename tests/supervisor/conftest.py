"""What the supervisor's tests share: the event loop they run on, and call tables to begin with."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from supervisor.calls import events as ev
from supervisor.calls.state import Phase
from tests.supervisor.call_walk import SET_UP, A, Walk

ON_UVLOOP = {
    "test_command.py",
    "test_control_server.py",
    "test_stream_control.py",
    "test_stream_moves.py",
    "test_supervise.py",
    "test_supervise_ends.py",
    "test_worker_pool.py",
    "test_worker_pool_peers.py",
}
"""What deals with processes and their death runs on the loop that the supervisor itself uses."""


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop of each test."""
    if item.path.name in ON_UVLOOP:
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture
def walk() -> Walk:
    """An empty call table."""
    return Walk()


@pytest.fixture
def up() -> Walk:
    """A call table with a call that is up, its stream accepted."""
    walk = Walk()
    walk.take(*SET_UP, ev.StreamStarted(A))
    assert walk.call.phase is Phase.UP
    return walk
