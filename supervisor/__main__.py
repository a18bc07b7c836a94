"""`python -m supervisor`: run the supervisor; all settings come from the environment or .env."""

import fcntl
import os
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import dotenv
import structlog
import uvloop

from shim import core_dumps, environment, log_setup
from shim.config import ShimConfig, tls_context
from shim.control import SOCKET_NAME
from shim.environment import ConfigError
from supervisor.api.audit_log import AuditLog
from supervisor.api.doorkeeper import Doorkeeper
from supervisor.api.server import server_tls
from supervisor.config import SupervisorConfig, check
from supervisor.recordings import keyring as recording_keyring
from supervisor.supervise import Setup, Supervisor, SupervisorFailed
from supervisor.traces.tracing import check_traces
from supervisor.workers.media_ports import check_host

EXIT_CONFIG: Final = 78
"""EX_CONFIG of sysexits.h: starting again won't help."""
SOCKET_PATH_BYTES: Final = 107
"""The longest name of a Unix socket (unix(7): 108 bytes, one of them ends it)."""


def main() -> int:
    """Run the supervisor; returns the process's exit code."""
    own = dict(os.environ)
    log_setup.configure("text", "INFO", process="supervisor")
    try:
        setup = _read_setup(own)
        config = setup.config
        log_setup.configure(config.log_format, config.log_level, process="supervisor")
        if not config.core_dumps:
            core_dumps.forbid()
        _raise_fd_limit()
        with _locked(config.run_path()):
            uvloop.run(_serve(setup, lambda: _read_setup(own)))
    except ConfigError as error:
        structlog.get_logger().error("cannot_start", reason=str(error))
        return EXIT_CONFIG
    except SupervisorFailed as error:
        structlog.get_logger().error("supervisor_failed", reason=str(error))
        return 1
    return 0


async def _serve(setup: Setup, read_setup: Callable[[], Setup]) -> None:
    await Supervisor(setup, read_setup).run()


def _read_setup(own: Mapping[str, str]) -> Setup:
    """Settings from .env and the process's own environment, which wins; raises ConfigError."""
    from_file = {name: value or "" for name, value in dotenv.dotenv_values(".env").items()}
    merged = {**from_file, **own}
    config = environment.read(SupervisorConfig, merged)
    cpus = config.worker_cpus(sorted(os.sched_getaffinity(0)))
    check(config, len(cpus))
    variable = "RTP_BIND_HOST" if config.rtp_bind_host else "EXTERNAL_MEDIA_HOST"
    check_host(variable, config.rtp_bind_host or config.external_media_host)
    if config.recording_dir:
        merged |= recording_keyring.worker_variables(config.recording_kms_key_id)
    of_workers = environment.read(ShimConfig, merged)  # so that no worker fails on it
    of_workers.stream_settings()
    of_workers.recording_settings()
    tls_context(of_workers)
    _check_http(config)
    check_traces(merged)
    return Setup(config, cpus, merged)


def _check_http(config: SupervisorConfig) -> None:
    """Read the files that HTTP needs once before anything is begun; raises ConfigError."""
    server_tls(config.http_tls_cert, config.http_tls_key)
    Doorkeeper(config.door_settings("")).close()
    if config.audit_log and (path := config.audit_path()):
        AuditLog(path).close()


def _raise_fd_limit() -> None:
    """Each call takes descriptors; the usual soft limit of 1024 is meant for select(2)."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def _locked(run_dir: Path) -> Iterator[None]:
    """Make sure that no other supervisor uses the run directory."""
    spare_bytes = SOCKET_PATH_BYTES - len(os.fsencode(run_dir / SOCKET_NAME))
    if spare_bytes < 0:
        raise ConfigError(
            f"RUN_DIR is {str(run_dir)!r}: allowed is a path shorter by {-spare_bytes} bytes"
        )
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
