"""What does a call cost a worker, and how regular is what it sends?

    python -m loadtest.bench --calls 300 --seconds 30 [--tls] [--json FILE] [--workers 1]
                             [--only ours,floor,textbook] [--warm-up 3] [--rounds 1]

In one run, one after the other on the same CPU: our worker with its real supervisor, a floor in C
that does the least that can be done, and a textbook version. Each serves so many calls, whose
callers speak all the time to a voice server that says everything back. What is measured runs on
the first CPU, all else (load generator, voice server, supervisor, ARI) on the others. See
docs/performance.md for the method and for what each figure means.

With more rounds the contenders take turns, and each one's median round counts: for machines that
are not quiet.

The exit code is 1 when the load generator fell behind, so that the figures mean nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import trustme
import uvloop

from loadtest.bench_contenders import (
    CONTENDERS,
    FEW_CALLS,
    TEXTBOOK_MOST,
    Place,
    Running,
)
from loadtest.bench_figures import NAMES, Comparison, Measured, Run, compare, median, table
from loadtest.bench_load import Load
from loadtest.bench_programs import (
    BenchError,
    Program,
    busy_ns,
    cpu_ns,
    raise_fd_limit,
    rss_kb,
)
from loadtest.command_line import check_ranges, write_json

MAX_CALLS: Final = 1200
"""So that all ports from 30,000 on are below Linux's ephemeral ones, which begin at 32,768."""

T = TypeVar("T")


async def bench(run: Run, cpus: Sequence[int]) -> Comparison:
    """Measure all contenders of a run.

    Args:
        cpus: what is measured runs on the first of them (as many as there are workers).

    Raises:
        BenchError: a part failed.
    """
    names = [name for name in run.only if not (name == "floor" and run.tls)]
    rounds = [{name: await measure(name, run, cpus) for name in names} for _ in range(run.rounds)]
    measured = {name: median([each[name] for each in rounds]) for name in names}
    return compare(run, measured)


async def measure(
    name: str, run: Run, cpus: Sequence[int], settings: Mapping[str, str] | None = None
) -> Measured:
    """Measure one contender once; `settings` are environment variables of ours."""
    calls = min(run.calls, TEXTBOOK_MOST) if name == "textbook" else run.calls
    workers = run.workers if name == "ours" else 1
    with tempfile.TemporaryDirectory(prefix="ots-bench-") as path:
        directory = Path(path)
        async with (
            _voice_server(directory, tls=run.tls) as (voice_port, ca_file),
            Load(calls, run.first_port, directory) as load,
        ):
            place = Place(directory, tuple(cpus[:workers]), voice_port, ca_file, settings or {})
            async with CONTENDERS[name](place, load) as running:
                await asyncio.sleep(run.warm_up_s)
                return await _watch(running, load, run.seconds, place.measured)


async def _watch(running: Running, load: Load, seconds: float, cpus: tuple[int, ...]) -> Measured:
    """Measure a contender that serves all its calls."""
    began_ns = time.monotonic_ns()
    used_ns, busy = sum(map(cpu_ns, running.pids)), sum(map(busy_ns, cpus))
    helpers_ns = sum(map(cpu_ns, running.helpers))
    await load.measure(seconds)
    took_ns = time.monotonic_ns() - began_ns
    used_ns = sum(map(cpu_ns, running.pids)) - used_ns
    helpers_ns = sum(map(cpu_ns, running.helpers)) - helpers_ns
    busy = sum(map(busy_ns, cpus)) - busy
    now_kb = sum(map(rss_kb, running.pids))
    report = await load.report()
    more = load.calls - FEW_CALLS
    few_kb = running.few_rss_kb
    return Measured(
        calls=load.calls,
        us_per_frame_pair=used_ns / took_ns * 1e6 / report.frame_pairs_per_s,
        cpu_fraction=used_ns / took_ns,
        foreign_fraction=max(0.0, (busy - used_ns) / (took_ns * len(cpus))),
        rss_kb=now_kb,
        rss_kb_per_call=None if few_kb is None else (now_kb - few_kb) / more,
        load=report,
        helpers_us_per_frame_pair=helpers_ns / took_ns * 1e6 / report.frame_pairs_per_s,
    )


@asynccontextmanager
async def _voice_server(directory: Path, *, tls: bool) -> AsyncIterator[tuple[int, str]]:
    """The echoing voice server: its port, and the file with its certificate authority."""
    ca_file = directory / "ca.pem"
    command = [sys.executable, "-m", "loadtest.bench_voice_server"]
    if tls:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(ca_file)
        server_file = directory / "server.pem"
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(server_file)
        command.append(str(server_file))
    async with Program(command, directory) as server:
        yield int((await server.hear()).removeprefix("port ")), str(ca_file) if tls else ""


def add_run_options(parser: argparse.ArgumentParser, calls: int) -> None:
    """What every measurement of a worker can be told; `calls` is the default."""
    parser.add_argument("--calls", type=int, default=calls)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--warm-up", type=float, default=3.0, help="seconds before it counts")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--port", type=int, default=30000, help="first of the UDP ports")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")


def run_ranges(options: argparse.Namespace) -> list[tuple[str, float, float, float]]:
    """What is allowed of those, for `check_ranges`."""
    return [
        ("--calls", options.calls, 1, MAX_CALLS),
        ("--seconds", options.seconds, 0.5, 3600),
        ("--warm-up", options.warm_up, 0, 600),
        ("--rounds", options.rounds, 1, 99),
        ("--port", options.port, 1024, 60000),
    ]


def run_of(arguments: Sequence[str] | None, cpus: int) -> tuple[Run, Path | None]:
    """What the command line asks for, and where the figures go; bad values end the program."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run_options(parser, calls=300)
    parser.add_argument("--tls", action="store_true", help="wss:// (the floor is left out)")
    parser.add_argument("--workers", type=int, default=1, help="of ours, one per CPU")
    parser.add_argument("--only", default=",".join(NAMES), help="default: %(default)s")
    options = parser.parse_args(arguments)
    only = tuple(options.only.split(","))
    for name in only:
        if name not in NAMES:
            parser.error(f"--only has {name!r}, allowed is some of {','.join(NAMES)}")
    check_ranges(parser, *run_ranges(options), ("--workers", options.workers, 1, cpus))
    run = Run(
        calls=options.calls,
        seconds=options.seconds,
        warm_up_s=options.warm_up,
        tls=options.tls,
        workers=options.workers,
        rounds=options.rounds,
        first_port=options.port,
        only=only,
    )
    return run, options.json


def leave_to_workers(workers: int) -> list[int]:
    """Move this process, and so those that it starts, off the first CPUs; returns all CPUs."""
    cpus = sorted(os.sched_getaffinity(0))
    others = set(cpus[workers:]) or {cpus[-1]}
    if len(cpus) <= workers:
        print("WARNING: the load has no CPU of its own, so the figures are too bad")
    os.sched_setaffinity(0, others)
    raise_fd_limit()
    return cpus


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run it on an event loop. SIGTERM cancels it, so that it ends what it has started.

    Raises:
        BenchError: it was cancelled.
    """

    async def interruptible() -> T:
        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await task

    try:
        return uvloop.run(interruptible())
    except asyncio.CancelledError:
        raise BenchError("stopped by SIGTERM") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    run, json_path = run_of(arguments, len(os.sched_getaffinity(0)))
    cpus = leave_to_workers(run.workers)
    try:
        comparison = run_to_end(bench(run, cpus))
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(table(comparison)))
    if json_path is not None:
        write_json(json_path, comparison)
    return 1 if comparison.fell_behind else 0


if __name__ == "__main__":
    sys.exit(main())
