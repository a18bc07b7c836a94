"""The whole system as processes on free ports: for tests, chaos and measurements.

Asterisk (the real one, or the stand-in), the supervisor with its workers, and the voice agent,
each started, killed and started again on its own.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self
from urllib.request import Request

from aiohttp import encode_basic_auth

from deploy.run_asterisk import NotRunningError, cli

START_S: Final = 20.0
STOP_S: Final = 10.0
POLL_S: Final = 0.02


class StackError(Exception):
    """A part did not do in time what it should; the text has what it printed."""


class Part:
    """One process of the stack; what it prints goes to a file."""

    def __init__(self, name: str, command: list[str], log_path: Path) -> None:
        self.name = name
        self._command = [sys.executable, "-m", *command]
        self._log_path = log_path
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it has printed so far, over all its starts."""
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    @property
    def pid(self) -> int:
        """Its process; raises StackError if it isn't running."""
        if self.process is None or self.process.poll() is not None:
            raise StackError(f"{self.name} is not running:\n{self.log[-3000:]}")
        return self.process.pid

    def start(self, environment: Mapping[str, str]) -> None:
        """Start it, in a process group of its own."""
        with self._log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and wait; returns the exit code. What doesn't end in time is killed."""
        if self.process is None:
            return 0
        self.process.terminate()
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise StackError(f"{self.name} did not end:\n{self.log[-3000:]}") from None


class Stack:
    """All parts, from `with` to its end.

    Args:
        real: whether Asterisk is the real one.
        settings: environment variables that differ from the stack's own.

    `for_supervisor` are variables that only the supervisor gets, such as a proxy's ARI_BASE.
    """

    def __init__(self, *, real: bool, settings: Mapping[str, str] | None = None) -> None:
        self.real = real
        self._directory = tempfile.TemporaryDirectory(prefix="ots-stack-")
        self.path = Path(self._directory.name)
        agent_port = free_port(socket.SOCK_STREAM)
        self.environment = {
            "ARI_BASE": f"http://127.0.0.1:{free_port(socket.SOCK_STREAM)}",
            "ARI_USER": "stack",
            "ARI_PASS": secrets.token_urlsafe(16),
            "ARI_APP": "voice-agent",
            "SIP_PORT": str(free_port(socket.SOCK_DGRAM)),
            "ASTERISK_RTP_START": "10000",
            "ASTERISK_RTP_END": "15999",
            "RTP_PORT_START": "20000",
            "RTP_PORT_END": "21999",
            "HTTP_PORT": str(free_port(socket.SOCK_STREAM)),
            "VOICE_AGENT_PORT": str(agent_port),
            "ECS_MEDIA_WSS_URL": f"ws://127.0.0.1:{agent_port}/media-stream",
            "RUN_DIR": str(self.path / "run"),
            "WORKERS": "2",
            "API_TOKEN": secrets.token_urlsafe(16),
            "AUDIT_LOG": "off",
            "LOG_FORMAT": "json",
            **(settings or {}),
        }
        self.for_supervisor: dict[str, str] = {}
        self._instance = self.path / "asterisk"
        asterisk = (
            ["deploy.run_asterisk", "--instance", str(self._instance)]
            if real
            else ["loadtest.stand_in"]
        )
        self.asterisk = Part("asterisk", asterisk, self.path / "asterisk.log")
        self.supervisor = Part("supervisor", ["supervisor"], self.path / "supervisor.log")
        self.agent = Part("voice_agent", ["voice_agent"], self.path / "voice_agent.log")

    def __enter__(self) -> Self:
        try:
            self.start_asterisk()
            self.agent.start(self.environment)
            self.start_supervisor()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def sip_uri(self) -> str:
        """Where to call."""
        return f"sip:agent@127.0.0.1:{self.environment['SIP_PORT']}"

    @property
    def run_dir(self) -> Path:
        """The supervisor's run directory."""
        return Path(self.environment["RUN_DIR"])

    def start_asterisk(self) -> None:
        """Start Asterisk, and wait until it takes calls."""
        self.asterisk.start(self.environment)
        self.wait_until(self._asterisk_is_up, START_S, "Asterisk takes no calls")

    def start_supervisor(self) -> None:
        """Start the supervisor, and wait until all is well."""
        self.supervisor.start({**self.environment, **self.for_supervisor})
        self.wait_until(self.is_ok, START_S, "the supervisor is not ok")

    def health(self) -> dict[str, Any]:
        """The supervisor's whole /health; raises StackError without an answer."""
        url = f"http://127.0.0.1:{self.environment['HTTP_PORT']}/health"
        headers = {"Authorization": f"Bearer {self.environment['API_TOKEN']}"}
        try:
            with urllib.request.urlopen(Request(url, headers=headers), timeout=5) as answer:
                content: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            content = json.load(error)
        except OSError as error:
            raise StackError(f"no /health: {error}") from error
        return content

    def is_ok(self) -> bool:
        """Whether /health says so."""
        _ = self.supervisor.pid
        return self.is_well()

    def is_well(self) -> bool:
        """Whether /health says so; for a supervisor that isn't this stack's own process."""
        try:
            return bool(self.health()["status"] == "ok")
        except StackError:
            return False  # not listening yet

    def workers(self) -> list[dict[str, Any]]:
        """The workers in /health."""
        workers: list[dict[str, Any]] = self.health()["workers"]
        return workers

    def left_in_asterisk(self) -> dict[str, int]:
        """How many channels and bridges Asterisk has."""
        return {kind: len(self.ask_ari("GET", f"/{kind}")) for kind in ("channels", "bridges")}

    def ask_ari(self, method: str, path: str, **query: str) -> Any:
        """A request to ARI, as from another program; the answer's JSON, None if there is none."""
        login = encode_basic_auth(self.environment["ARI_USER"], self.environment["ARI_PASS"])
        url = f"{self.environment['ARI_BASE']}/ari{path}?{urllib.parse.urlencode(query)}"
        request = urllib.request.Request(url, method=method, headers={"Authorization": login})
        with urllib.request.urlopen(request, timeout=5) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def cli(self, command: str) -> str:
        """Ask the real Asterisk's console."""
        return cli(self._instance, command)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The supervisor's and the workers' log lines of one event."""
        lines = (line for line in self.supervisor.log.splitlines() if line.startswith("{"))
        return [entry for entry in map(json.loads, lines) if entry.get("event") == name]

    def wait_until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Poll until the condition holds; raises StackError with the logs when time is over."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(part.log[-2000:] for part in (self.asterisk, self.supervisor))
                raise StackError(f"after {seconds:g} s: {what}\n{logs}")
            time.sleep(POLL_S)

    def _asterisk_is_up(self) -> bool:
        _ = self.asterisk.pid
        if not self.real:
            return self._ari_answers()
        try:
            return "fully booted" in self.cli("core waitfullybooted")
        except NotRunningError:
            return False  # not yet

    def _ari_answers(self) -> bool:
        try:
            self.ask_ari("GET", "/channels")
        except urllib.error.URLError:
            return False  # not yet
        return True

    def _end(self) -> None:
        """End all parts; workers of a killed supervisor, too."""
        try:
            for part in (self.supervisor, self.agent, self.asterisk):
                part.stop()
        finally:
            for part in (self.supervisor, self.agent, self.asterisk):
                part.kill()
                _kill_group(part)
            self._directory.cleanup()


def _kill_group(part: Part) -> None:
    if part.process is None:
        return
    try:
        os.killpg(part.process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # nothing of it is left, as it should be


def free_port(kind: socket.SocketKind) -> int:
    """A port of 127.0.0.1 that is free at this moment."""
    with socket.socket(socket.AF_INET, kind) as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port
