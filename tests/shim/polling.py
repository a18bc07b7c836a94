"""Waiting for what other processes do: look again until it is so, or a deadline is over."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, TypeVar

LOOK_AGAIN_S: Final = 0.003
PATIENCE_S: Final = 8.0
"""For what takes milliseconds on an idle machine and may take longer on a busy one."""

T = TypeVar("T")


async def until(look: Callable[[], T | None], what: str, within_s: float = PATIENCE_S) -> T:
    """Return the first truthy answer of `look`.

    Raises:
        AssertionError: there was none within the time.
    """
    deadline = time.monotonic() + within_s
    while True:
        answer = look()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(LOOK_AGAIN_S)
