"""A real Asterisk for tests, on ports of its own.

`tests/conftest.py` offers the fixture `asterisk`, one instance for the whole run. A test that needs
its own, to end it for instance, takes the fixture `asterisk_rootfs` and makes `AsteriskInstance`s.
"""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from deploy.asterisk_rootfs import ensure_rootfs, obstacle
from deploy.run_asterisk import NotRunningError, cli
from loadtest.stack import free_port

CHECKOUT = Path(__file__).parents[1]
START_SECONDS = 20.0
STOP_SECONDS = 5.0
"""After this honcho, too, stops asking and kills."""


class AsteriskInstance:
    """One Asterisk: its addresses, its credentials and its life.

    Everything about it is under `directory`; what it prints is in `directory/asterisk.log`.
    `stop` or `kill` ends it; as a context manager it starts and stops. `settings` are environment
    variables that differ from its own; `enter` makes its command line one that runs elsewhere.
    """

    def __init__(
        self,
        directory: Path,
        *,
        rtp_ports: range = range(10000, 20000),
        app: str = "voice-agent",
        settings: Mapping[str, str] | None = None,
        enter: Callable[[Sequence[str]], list[str]] = list,
    ) -> None:
        self.directory = directory
        self.settings = dict(settings or {})
        self._enter = enter
        self.rtp_ports = rtp_ports
        self.http_port = free_port(socket.SOCK_STREAM)
        self.sip_port = free_port(socket.SOCK_DGRAM)
        self.ari_base = f"http://127.0.0.1:{self.http_port}"
        self.user = "tests"
        self.password = secrets.token_urlsafe(16)
        self.app = app
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make Asterisk, and a supervisor, use this instance."""
        return {
            "ARI_BASE": self.ari_base,
            "ARI_USER": self.user,
            "ARI_PASS": self.password,
            "ARI_APP": self.app,
            "SIP_PORT": str(self.sip_port),
            "AGENT_WAIT_SECONDS": "0",
            "ASTERISK_RTP_START": str(self.rtp_ports.start),
            "ASTERISK_RTP_END": str(self.rtp_ports.stop - 1),
            **self.settings,
        }

    def sip_uri(self, number: str = "+15551234567") -> str:
        """Where to call: any number leads to the app."""
        return f"sip:{number}@127.0.0.1:{self.sip_port}"

    @property
    def log(self) -> str:
        """Everything that Asterisk has printed so far, over all its starts."""
        return (self.directory / "asterisk.log").read_text(errors="replace")

    def start(self) -> None:
        """Start it and wait until it takes calls; one that doesn't get there is killed."""
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "deploy.run_asterisk", "--instance", str(self.directory)]
        with (self.directory / "asterisk.log").open("ab") as log:
            self.process = subprocess.Popen(
                self._enter(command),
                cwd=CHECKOUT,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(self._is_up, START_SECONDS, lambda: f"Asterisk doesn't start:\n{self.log}")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> int:
        """SIGTERM, and wait; returns the exit code. One that doesn't end in time is killed."""
        process = self._running_process()
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
        finally:
            self.process = None

    def kill(self) -> None:
        """SIGKILL, as when the machine runs out of memory; it can be started again."""
        process = self._running_process()
        process.kill()
        process.wait()
        self.process = None

    def cli(self, command: str) -> str:
        """What Asterisk's console prints for a command, e.g. "core show channels"."""
        return cli(self.directory, command)

    def __enter__(self) -> "AsteriskInstance":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.stop()

    def _is_up(self) -> bool:
        code = self._running_process().poll()
        assert code is None, f"Asterisk ended with exit code {code}:\n{self.log}"
        with contextlib.suppress(NotRunningError):  # not yet: that is what is polled for
            return "fully booted" in self.cli("core waitfullybooted")
        return False

    def _running_process(self) -> subprocess.Popen[bytes]:
        assert self.process is not None, "this Asterisk has not been started"
        return self.process


@pytest.fixture(scope="session")
def asterisk_rootfs() -> Path:
    """The root file system, built if need be; skips where no real Asterisk can run."""
    if problem := obstacle():
        pytest.skip(problem)
    return ensure_rootfs()


@pytest.fixture(scope="session")
def asterisk(
    asterisk_rootfs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AsteriskInstance]:
    """A running Asterisk that all tests share: leave it without channels and bridges."""
    with AsteriskInstance(tmp_path_factory.mktemp("asterisk")) as instance:
        yield instance


def wait_until(condition: Callable[[], bool], seconds: float, problem: Callable[[], str]) -> None:
    """Poll until `condition` holds; fail with `problem()` once the time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, problem()
        time.sleep(0.02)
