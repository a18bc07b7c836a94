"""Where Prometheus comes from, and what a fetch that fails leaves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.prometheus_package import obstacle
from tests.asterisk_instance import CHECKOUT

BROKEN_APT = """#!/bin/sh
echo "E: the mirror has gone away" >&2
exit 100
"""


def run(path: str, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the module as a program, with another PATH and cache folder."""
    return subprocess.run(
        [sys.executable, "-m", "deploy.prometheus_package", *arguments],
        cwd=CHECKOUT,
        env={**os.environ, "PATH": path, "OTS_CACHE": str(cache)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def script(folder: Path, name: str, text: str) -> None:
    """A program in a folder for PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def test_an_obstacle_is_one_sentence() -> None:
    """Users and skipped tests show it as it is."""
    problem = obstacle()
    assert problem is None or (problem.startswith("No Prometheus") and "\n" not in problem)


def test_programs_on_the_path_come_first(tmp_path: Path) -> None:
    """Who has Prometheus installed needs no other; nothing is fetched."""
    for name in ("prometheus", "promtool"):
        script(tmp_path / "bin", name, "#!/bin/sh\n")
    found = run(str(tmp_path / "bin"), tmp_path / "cache")
    assert (found.returncode, found.stdout) == (0, f"{tmp_path / 'bin'}: there\n")


def test_without_apt_there_is_an_obstacle(tmp_path: Path) -> None:
    """It says what is missing."""
    missing = run(str(tmp_path), tmp_path / "cache")
    assert missing.returncode == 1
    assert missing.stderr.startswith("No Prometheus: it is not on PATH")


@pytest.mark.parametrize("arguments", [(), ("--check",)])
def test_a_failed_fetch_leaves_nothing(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """The error says what apt said last; `--check` doesn't even try."""
    script(tmp_path / "bin", "apt-get", BROKEN_APT)
    script(tmp_path / "bin", "dpkg-deb", BROKEN_APT)
    tried = run(str(tmp_path / "bin"), tmp_path / "cache", *arguments)
    if arguments:
        assert (tried.returncode, "not there yet" in tried.stdout) == (0, True)
        assert not (tmp_path / "cache").exists()
    else:
        assert tried.returncode == 1
        assert "No Prometheus: apt-get failed: E: the mirror has gone away" in tried.stderr
        left = [file.name for file in (tmp_path / "cache" / "open-telephony-stack").iterdir()]
        assert left == ["prometheus.lock"]
