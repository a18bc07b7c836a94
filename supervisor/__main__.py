"""`python -m supervisor`: run the supervisor; all settings come from the environment or .env."""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import dotenv
import structlog
import uvloop

from shim import environment, log_setup
from shim.config import ShimConfig, tls_context
from shim.environment import ConfigError
from supervisor.config import SupervisorConfig, check
from supervisor.supervise import Supervisor

EXIT_CONFIG: Final = 78
"""EX_CONFIG of sysexits.h: starting again won't help."""


def main() -> int:
    """Run the supervisor; returns the process's exit code."""
    dotenv.load_dotenv(".env")
    log_setup.configure("text", "INFO", process="supervisor")
    try:
        config = environment.read(SupervisorConfig, os.environ)
        log_setup.configure(config.log_format, config.log_level, process="supervisor")
        cpus = config.worker_cpus(sorted(os.sched_getaffinity(0)))
        check(config, len(cpus))
        tls_context(environment.read(ShimConfig, os.environ))  # so that no worker fails on it
        with _locked(config.run_path()):
            uvloop.run(_serve(config, cpus))
    except ConfigError as error:
        structlog.get_logger().error("cannot_start", reason=str(error))
        return EXIT_CONFIG
    return 0


async def _serve(config: SupervisorConfig, cpus: tuple[int, ...]) -> None:
    await Supervisor(config, cpus).run()


@contextmanager
def _locked(run_dir: Path) -> Iterator[None]:
    """Make sure that no other supervisor uses the run directory."""
    try:
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigError(f"RUN_DIR is {str(run_dir)!r}: {error.strerror}") from error
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise ConfigError(
            f"RUN_DIR is {str(run_dir)!r}: another supervisor uses it; allowed is one of its own"
        ) from error
    finally:
        os.close(directory)


if __name__ == "__main__":
    sys.exit(main())
