"""File descriptors run out, for this process and for a while (`RLIMIT_NOFILE`, getrlimit(2))."""

import asyncio
import itertools
import os
import resource
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

SETTLED_S: Final = 0.3
"""A descriptor that is being closed is closed within that."""


@contextmanager
def fds_left(count: int) -> Iterator[None]:
    """Let this process open `count` more file descriptors; the next one fails with EMFILE."""
    spare = [os.dup(0) for _ in range(count + 1)]
    for fd in spare:
        os.close(fd)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Numbers are given from the lowest one up, so the last of the spare ones is the first too many.
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare[-1], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_fds(pid: int | None = None) -> int:
    """How many file descriptors a process has open; this one if none is named."""
    return len(os.listdir(f"/proc/{pid or 'self'}/fd"))


@asynccontextmanager
async def no_fds_left(*pids: int) -> AsyncIterator[None]:
    """Let these processes open no descriptor more, not even in place of one that they close."""
    before = [resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in pids]
    try:
        until = time.monotonic() + SETTLED_S
        while time.monotonic() < until:
            for pid, (_, hard) in zip(pids, before, strict=True):
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (_lowest_free_fd(pid), hard))
            await asyncio.sleep(SETTLED_S / 10)
        yield
    finally:
        for pid, limits in zip(pids, before, strict=True):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def _lowest_free_fd(pid: int) -> int:
    """The descriptor that a process gets next: with this as its limit it gets none (dup(2))."""
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    return next(number for number in itertools.count() if number not in taken)
