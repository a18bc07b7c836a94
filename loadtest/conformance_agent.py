"""The sample voice agent as a process, for the time of an examination."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Final

CHECKOUT: Final = Path(__file__).parents[1]
START_S: Final = 10.0
STOP_S: Final = 5.0
LOOK_AGAIN_S: Final = 0.02


class AgentError(Exception):
    """The sample voice agent did not start; the text says why."""


@asynccontextmanager
async def sample_agent() -> AsyncIterator[str]:
    """Run `python -m voice_agent` on a free port; yields the URL of its WebSocket.

    Raises:
        AgentError: it does not listen, or not in time.
    """
    environ = {"VOICE_AGENT_HOST": "127.0.0.1", "VOICE_AGENT_PORT": "0"}
    with tempfile.TemporaryFile("w+b") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "voice_agent",
            cwd=CHECKOUT,
            env={**os.environ, **environ},
            stdin=DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            yield await _url(process, log)
        finally:
            await _stop(process)


async def _stop(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _url(process: Process, log: IO[bytes]) -> str:
    """Wait for the line of its log that says where it listens."""
    deadline = time.monotonic() + START_S
    while True:
        said = os.pread(log.fileno(), 1 << 16, 0).decode(errors="replace")
        for line in said.splitlines(keepends=True):
            if '"event": "listening"' in line and line.endswith("\n"):
                where = json.loads(line)
                return f"ws://{where['host']}:{where['port']}{where['path']}"
        if process.returncode is not None or time.monotonic() > deadline:
            raise AgentError(f"the voice agent does not start:\n{said}")
        await asyncio.sleep(LOOK_AGAIN_S)
