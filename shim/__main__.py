"""`python -m shim --worker K --seat S --cpu C`: one worker process, started by the supervisor."""

import argparse
import os
import sys
from pathlib import Path
from typing import Final

import structlog
import uvloop

from shim import environment, log_setup, port_memory
from shim.config import ShimConfig, tls_context
from shim.environment import ConfigError
from shim.port_layout import LayoutError
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
    place = Place(arguments.worker, arguments.seat)
    try:
        config = environment.read(ShimConfig, os.environ)
        log_setup.configure(
            config.log_format, config.log_level, process="worker", worker=place.worker
        )
        tls = tls_context(config)
        memory = port_memory.attach(Path(config.run_dir) / port_memory.FILE_NAME)
        os.sched_setaffinity(0, {arguments.cpu})
        _raise_priority(config.worker_nice)
    except (ConfigError, LayoutError, OSError) as error:
        structlog.get_logger().error("worker_cannot_start", reason=str(error))
        return EXIT_CONFIG

    async def serve() -> None:
        await Worker(place, memory, config, tls).run()

    uvloop.run(serve())
    return 0


def _raise_priority(nice: int) -> None:
    """Let audio go before whatever shares the CPU; without the right to it, go on without."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except PermissionError:
        structlog.get_logger().info("worker_priority_not_raised", nice=nice)


if __name__ == "__main__":
    sys.exit(main())
