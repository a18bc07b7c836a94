"""Which event loop the supervisor's tests run on."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

ON_UVLOOP = {"test_control_server.py", "test_supervise.py", "test_worker_pool.py"}
"""What deals with processes and their death runs on the loop that the supervisor itself uses."""


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop of each test."""
    if item.path.name in ON_UVLOOP:
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}
