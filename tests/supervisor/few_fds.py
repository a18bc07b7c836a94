"""File descriptors run out, for this process and for a while (`RLIMIT_NOFILE`, getrlimit(2))."""

import itertools
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


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


def lowest_free_fd(pid: int) -> int:
    """The descriptor that a process gets next: with this as its limit it gets none (dup(2))."""
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    return next(number for number in itertools.count() if number not in taken)
