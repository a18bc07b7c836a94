"""What of the images can be tried without a builder: scripts as processes, and the Dockerfile."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from deploy.docker import health
from tests.asterisk_instance import wait_until
from tests.supervisor.stack import RunningStack

CHECKOUT = Path(__file__).parents[2]
DOCKER = CHECKOUT / "deploy/docker"
SUPERVISOR = """#!/bin/sh
# In the place of `python -m supervisor`: notes its start, and ends with code 0 on SIGTERM.
echo "$$ $*" >> "$STARTS"
[ -z "${EXIT:-}" ] || exit "$EXIT"
trap 'echo HUP >> "$STARTS"' HUP
trap 'exit 0' TERM
while :; do sleep 0.05; done
"""


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one of the scripts to its end."""
    return subprocess.run(
        [DOCKER / script, *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )


class Keeper:
    """keep_supervisor.sh with a supervisor of the test's own."""

    def __init__(self, process: subprocess.Popen[bytes], starts: Path) -> None:
        self.process = process
        self._starts = starts

    @property
    def lines(self) -> list[str]:
        """What the supervisors have noted."""
        return self._starts.read_text().splitlines() if self._starts.exists() else []

    def wait_for(self, lines: int) -> None:
        """Wait until so many lines are noted."""
        wait_until(lambda: len(self.lines) >= lines, 20, lambda: f"{self.lines}")


@contextmanager
def keeper(directory: Path, environment: Mapping[str, str] | None = None) -> Iterator[Keeper]:
    """Start it; what is left of it is ended."""
    fake = directory / "python"
    fake.write_text(SUPERVISOR)
    fake.chmod(0o755)
    starts = directory / "starts"
    path = f"{directory}:{os.environ['PATH']}"
    process = subprocess.Popen(
        [DOCKER / "keep_supervisor.sh"],
        env={"PATH": path, "STARTS": str(starts), **(environment or {})},
        start_new_session=True,
    )
    try:
        yield Keeper(process, starts)
    finally:
        with suppress(ProcessLookupError):  # nothing of it is left, as it should be
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_supervisor_that_dies_is_started_again(tmp_path: Path) -> None:
    """By SIGKILL; and SIGTERM ends both, with the supervisor's own exit code."""
    with keeper(tmp_path) as kept:
        kept.wait_for(1)
        os.kill(int(kept.lines[0].split()[0]), signal.SIGKILL)
        kept.wait_for(2)
        assert kept.lines[1].endswith("-m supervisor")
        kept.process.send_signal(signal.SIGTERM)
        assert kept.process.wait(20) == 0
        assert len(kept.lines) == 2


def test_hup_is_passed_on(tmp_path: Path) -> None:
    """A rolling restart doesn't end anything."""
    with keeper(tmp_path) as kept:
        kept.wait_for(1)
        kept.process.send_signal(signal.SIGHUP)
        kept.wait_for(2)
        assert kept.lines[1] == "HUP"
        assert kept.process.poll() is None


def test_a_setting_that_makes_no_sense(tmp_path: Path) -> None:
    """Code 78 is not tried again."""
    with keeper(tmp_path, {"EXIT": "78"}) as kept:
        assert kept.process.wait(20) == 78
        assert len(kept.lines) == 1


def test_secrets_become_variables(tmp_path: Path) -> None:
    """Files named like variables; what is set already, stays; an empty one counts as not set."""
    (tmp_path / "ARI_PASS").write_text("from a file\n")
    (tmp_path / "API_TOKEN").write_text("overridden")
    (tmp_path / "OPENAI_API_KEY").write_text("")
    script = 'printf \'%s|\' "$ARI_PASS" "$API_TOKEN" "$OPENAI_API_KEY"'
    ended = run("entrypoint.sh", "sh", "-c", script, SECRETS_DIR=str(tmp_path), API_TOKEN="set")
    assert ended.stdout == "from a file|set||"


def test_secret_with_a_bad_name(tmp_path: Path) -> None:
    """No name can become a command."""
    (tmp_path / "A=$(id)").write_text("x")
    ended = run("entrypoint.sh", "true", SECRETS_DIR=str(tmp_path))
    assert ended.returncode == 78
    assert "a secret is named like its variable" in ended.stderr


def test_no_secrets(tmp_path: Path) -> None:
    """Without the directory the command just runs, with its own exit code."""
    ended = run("entrypoint.sh", "sh", "-c", "exit 7", SECRETS_DIR=str(tmp_path / "none"))
    assert ended.returncode == 7


def test_health() -> None:
    """Both programs answer; a degraded supervisor is well, one that is gone is not."""
    with RunningStack() as stack:
        supervisor = health.url("HTTP", stack.environment)
        assert health.problem(supervisor) == ""
        assert health.problem(health.url("VOICE_AGENT", stack.environment)) == ""
        stack.asterisk.stop()
        assert health.problem(supervisor) == ""
        stack.supervisor.stop()
        assert "refused" in health.problem(supervisor)


def test_where_health_is() -> None:
    """Addresses that mean every address are asked on the loopback."""
    assert health.url("HTTP", {}) == "http://127.0.0.1:8080/health"
    everywhere = {"VOICE_AGENT_HOST": "::", "VOICE_AGENT_PORT": "81"}
    assert health.url("VOICE_AGENT", everywhere) == "http://[::1]:81/health"


def test_configuration_is_rendered(tmp_path: Path) -> None:
    """As the container does it, and a bad value is code 78."""
    command = [sys.executable, "-m", "deploy.asterisk_config", "--out", str(tmp_path / "asterisk")]
    environment = {**os.environ, "ARI_PASS": "a-password"}
    subprocess.run(command, cwd=CHECKOUT, env=environment, check=True)
    assert "a-password" in (tmp_path / "asterisk/ari.conf").read_text()
    bad = {**environment, "SIP_PORT": "80"}
    ended = subprocess.run(command, cwd=CHECKOUT, env=bad, capture_output=True, text=True)
    assert ended.returncode == 78
    assert "SIP_PORT is '80'" in ended.stderr


def test_dockerfile_is_clean() -> None:
    """hadolint has nothing to say but what we overlook on purpose."""
    command = ["hadolint", "--config", str(DOCKER / "hadolint.yaml"), str(DOCKER / "Dockerfile")]
    tool = Path(sys.executable).parent / command[0]
    ended = subprocess.run([tool, *command[1:]], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize("target", ["supervisor", "voice-agent", "asterisk"])
def test_every_image_is_modest(target: str) -> None:
    """A user by number that is not root, a health check, a command that gets signals."""
    stages = (DOCKER / "Dockerfile").read_text().split("\nFROM ")
    (stage,) = [stage for stage in stages if stage.splitlines()[0].endswith(f" AS {target}")]
    users = [line.split()[1] for line in stage.splitlines() if line.startswith("USER ")]
    assert users
    assert users[-1].split(":")[0].isdigit()
    assert users[-1] != "0:0"
    assert "\nHEALTHCHECK " in stage
    assert "\nCMD [" in stage
