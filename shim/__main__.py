"""`python -m shim --worker K --seat S --cpu C`: one worker process, started by the supervisor."""

import argparse
import os
import sys
from pathlib import Path
from typing import Final

import structlog
import uvloop

from shim import core_dumps, environment, log_setup, port_memory
from shim.config import ShimConfig, tls_context
from shim.environment import ConfigError
from shim.link_opener import LinkOpener
from shim.port_layout import LayoutError
from shim.port_memory import PortMemory
from shim.worker import Place, Worker

EXIT_CONFIG: Final = 78
"""EX_CONFIG of sysexits.h: starting again won't help."""


def main() -> int:
    """Run one worker; returns the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m shim", description=__doc__)
    parser.add_argument("--worker", type=int, required=True, help="number of the worker, from 0")
    parser.add_argument("--seat", type=int, default=0, help="0 or 1: which of its two heartbeats")
    parser.add_argument("--cpu", type=int, required=True, help="the CPU to stay on")
    arguments = parser.parse_args()
    place = Place(arguments.worker, arguments.seat, frozenset(os.sched_getaffinity(0)))
    try:
        config = environment.read(ShimConfig, os.environ)
        log_setup.configure(
            config.log_format, config.log_level, process="worker", worker=place.worker
        )
        if not config.core_dumps:
            core_dumps.forbid()
        tls = tls_context(config)
        streams = config.stream_settings()
        config.recording_settings()
        memory = _attach(config.run_dir, place)
        _stay_on(arguments.cpu)
        _raise_priority(config.worker_nice)
    except ConfigError as error:
        structlog.get_logger().error("worker_cannot_start", reason=str(error))
        return EXIT_CONFIG

    async def serve() -> None:
        opener = LinkOpener(config.link_settings(), tls)
        await Worker(place, memory, config, streams, opener).run()

    uvloop.run(serve())
    return 0


def _attach(run_dir: str, place: Place) -> PortMemory:
    """The port table, in which this worker must have a heartbeat; raises ConfigError."""
    try:
        memory = port_memory.attach(Path(run_dir) / port_memory.FILE_NAME)
        memory.layout.heartbeat_ns(place.worker, place.seat)
    except (OSError, LayoutError, IndexError) as error:
        raise ConfigError(f"RUN_DIR is {run_dir!r}: {error}") from error
    return memory


def _stay_on(cpu: int) -> None:
    """Pin this process to one CPU; raises ConfigError."""
    try:
        os.sched_setaffinity(0, {cpu})
    except (OSError, ValueError, OverflowError) as error:
        usable = sorted(os.sched_getaffinity(0))
        raise ConfigError(f"--cpu is {cpu}: {error}; allowed is one of {usable}") from error


def _raise_priority(nice: int) -> None:
    """Let audio go before whatever shares the CPU; without the right to it, go on without."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except PermissionError:
        structlog.get_logger().info("worker_priority_not_raised", nice=nice)


if __name__ == "__main__":
    sys.exit(main())
