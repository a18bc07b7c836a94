"""The processes of a benchmark: built, started, spoken to by lines, measured, and ended."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from deploy.cache import cache_dir

SOURCES: Final = Path(__file__).parent / "c"
CHECKOUT: Final = Path(__file__).parents[1]
COMPILE: Final = ("cc", "-O2", "-Wall", "-Wextra")
ANSWER_S: Final = 10.0
STOP_S: Final = 10.0
LOG_CHARS: Final = 2000


class BenchError(Exception):
    """A part of the benchmark failed; the text says which, and what it printed."""


def compiled(name: str) -> Path:
    """The program of `c/<name>.c`, compiled unless it was before; kept outside of the checkout.

    Raises:
        BenchError: there is no compiler, or it refuses the source.
    """
    if shutil.which(COMPILE[0]) is None:
        raise BenchError(
            f"no C compiler {COMPILE[0]!r} on PATH, which the benchmark builds {name}.c with; "
            "on Debian: apt-get install gcc libc6-dev"
        )
    source = SOURCES / f"{name}.c"
    texts = [path.read_bytes() for path in (source, *sorted(SOURCES.glob("*.h")))]
    digest = hashlib.sha256(b"\0".join([*texts, " ".join(COMPILE).encode()])).hexdigest()[:16]
    program = cache_dir() / "bench" / f"{name}-{digest}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=program.parent) as directory:
            unfinished = Path(directory) / name
            command = [*COMPILE, "-o", str(unfinished), str(source)]
            ended = subprocess.run(command, capture_output=True, text=True)
            if ended.returncode != 0:
                raise BenchError(f"{' '.join(command)} failed:\n{ended.stderr}")
            unfinished.rename(program)
    return program


class Program:
    """A process in a session of its own, from `async with` to its end.

    It is asked to end by the end of its stdin, or by SIGTERM with `by_signal`; what doesn't, and
    what it has left behind in its session, is killed. What it prints on stderr goes to a file
    in `directory`, which is its working directory.
    """

    def __init__(
        self,
        command: Sequence[str],
        directory: Path,
        *,
        environment: Mapping[str, str] | None = None,
        by_signal: bool = False,
    ) -> None:
        self._command = command
        self._directory = directory
        self._environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), **(environment or {})}
        self._by_signal = by_signal
        self._log_path = directory / f"{Path(self._command[-1]).name}-{id(self):x}.log"
        self._process: Process

    async def __aenter__(self) -> Self:
        with self._log_path.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                cwd=self._directory,
                env=self._environment,
                stdin=DEVNULL if self._by_signal else PIPE,
                stdout=log if self._by_signal else PIPE,
                stderr=log,
                start_new_session=True,
            )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        process = self._process
        if process.stdin is not None:
            process.stdin.close()
        elif process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                code = await process.wait()
        except TimeoutError:
            code = None
        finally:
            _kill_session(process.pid)
            await process.wait()
        if code != 0 and error is None:
            raise BenchError(f"it did not end as it should ({code}): {self.story}")

    @property
    def pid(self) -> int:
        """The process; raises BenchError if it has ended."""
        if self._process.returncode is not None:
            raise BenchError(f"it has ended ({self._process.returncode}): {self.story}")
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has printed on stderr so far."""
        return self._log_path.read_text(errors="replace")

    @property
    def story(self) -> str:
        """The command, and the last that it printed."""
        return f"{' '.join(self._command)}\n{self.log[-LOG_CHARS:]}"

    def say(self, line: str) -> None:
        """Write a line to its stdin."""
        assert self._process.stdin is not None, "it is a program that is ended by a signal"
        self._process.stdin.write(f"{line}\n".encode())

    async def hear(self, seconds: float = ANSWER_S) -> str:
        """The next line of its stdout; raises BenchError if there is none in time."""
        assert self._process.stdout is not None, "it is a program that is ended by a signal"
        try:
            async with asyncio.timeout(seconds):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise BenchError(f"it said nothing for {seconds:g} s: {self.story}") from None
        if not line.endswith(b"\n"):
            raise BenchError(f"it has ended: {self.story}")
        return line.decode().strip()


def _kill_session(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # nothing of it is left, as it should be


def raise_fd_limit() -> None:
    """Allow this process and those that it starts as many descriptors as may be."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def pin(pid: int, cpus: set[int]) -> None:
    """Let all threads of a process run on these CPUs only (`sched_setaffinity` takes a thread)."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cpus)


def cpu_ns(pid: int) -> int:
    """User and system time of a process with all its threads, in nanoseconds.

    Its CPU clock has the id that clock_getcpuclockid(3) gives: much finer than the ticks of
    /proc/PID/stat. Raises BenchError if it has ended.
    """
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError as error:
        raise BenchError(f"process {pid}, which is measured, has ended") from error


def children(pid: int) -> list[int]:
    """The processes that a process has started (proc(5), children)."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in text.split()]


def rss_kb(pid: int) -> int:
    """The memory that a process has now (proc(5), statm: resident pages), in KiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() // 1024


def busy_ns(cpu: int) -> int:
    """How long a CPU has been anything but idle since the start (proc(5), stat), in nanoseconds."""
    lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    fields = next(line.split()[1:] for line in lines if line.startswith(f"cpu{cpu} "))
    ticks = [int(field) for field in fields[:8]]  # those after it are part of the first two
    idle, iowait = ticks[3:5]
    return (sum(ticks) - idle - iowait) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
