"""Debian's Chromium for tests, or why there is none."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from loadtest.browser import NoBrowserError, browser, chromium


@pytest.fixture(scope="session")
def chromium_program() -> str:
    """Where it is; skips where it isn't."""
    try:
        return chromium()
    except NoBrowserError as error:
        pytest.skip(str(error))


@pytest_asyncio.fixture
async def running(chromium_program: str) -> AsyncIterator[Browser]:
    """A browser of one test's own."""
    async with browser() as started:
        yield started
