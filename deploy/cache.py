"""Things that are fetched or built once and kept outside of the checkout."""

import argparse
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class CacheError(Exception):
    """A thing can't be had here; the text says why."""


def cache_dir() -> Path:
    """Where they are kept: in $OTS_CACHE, else $XDG_CACHE_HOME, else ~/.cache."""
    base = os.environ.get("OTS_CACHE") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "open-telephony-stack"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the kernel releases it however its holders end.

    Child processes started with `close_fds=False` hold it too: a debootstrap whose parent was
    killed still keeps others out.
    """
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.set_inheritable(lock.fileno(), True)
        yield


def last_line(text: str) -> str:
    """The last thing that a program said, which is mostly why it failed."""
    return next(reversed(text.strip().splitlines()), "no output").strip()


def run_command(
    module: str,
    description: str | None,
    ensure: Callable[[], Path],
    obstacle: Callable[[], str | None],
    state: Callable[[], str],
) -> int:
    """The command line of a module that keeps something here; returns the exit code.

    `ensure` makes it, `obstacle` says why it can't be had, `state` how things stand.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--check", action="store_true", help="make nothing, only say what is")
    arguments = parser.parse_args()
    try:
        if not arguments.check:
            ensure()
        problem = obstacle()
    except CacheError as error:
        problem = str(error)
    if problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    sys.stdout.write(f"{state()}\n")
    return 0
