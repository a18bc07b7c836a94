"""Debian's Chromium without a window, driven by Playwright: for tests and for pictures."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from playwright.async_api import Browser, async_playwright

PROGRAM: Final = "chromium"
HOW_TO_GET: Final = "deploy/setup.sh browser"


class NoBrowserError(Exception):
    """There is no Chromium here; the text says how to get one."""


def chromium() -> str:
    """Where it is; raises NoBrowserError."""
    path = shutil.which(PROGRAM)
    if path is None:
        raise NoBrowserError(f"{PROGRAM} is not installed; {HOW_TO_GET} does that")
    return path


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """A browser until the block ends. Raises NoBrowserError.

    Root can't have Chromium's sandbox; here it only sees pages of our own.
    """
    path = chromium()
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield running
        finally:
            await running.close()
