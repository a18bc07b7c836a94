"""Where the root file system goes, why it can't be had, and what a broken build leaves."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.asterisk_rootfs import obstacle, rootfs_dir
from deploy.cache import cache_dir
from tests.asterisk_instance import CHECKOUT

NOBODY = 65534

# Stands on PATH before the real one: notes its arguments, leaves half a root file system.
BROKEN_DEBOOTSTRAP = """#!/bin/sh
echo "$*" >> "$OTS_CACHE/calls"
for argument; do case $argument in /*building-*) mkdir -p "$argument/usr/bin" ;; esac; done
echo "E: the mirror has gone away"
exit 1
"""


@pytest.fixture
def broken_build(tmp_path: Path) -> dict[str, str]:
    """An environment with an empty cache folder and a debootstrap that fails."""
    script = tmp_path / "bin" / "debootstrap"
    script.parent.mkdir()
    script.write_text(BROKEN_DEBOOTSTRAP)
    script.chmod(0o755)
    path = f"{script.parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OTS_CACHE": str(tmp_path)}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the module as a program, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "deploy.asterisk_rootfs", *arguments],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"OTS_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"OTS_CACHE": "", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b"),
        ({"OTS_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/c"}, "/c/.cache"),
    ],
)
def test_the_cache_folder_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str
) -> None:
    """Our own variable wins over the desktop's, and that over the home directory."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_dir() == Path(expected) / "open-telephony-stack"
    assert CHECKOUT not in rootfs_dir().parents


def test_an_obstacle_is_one_sentence() -> None:
    """Users and skipped tests show it as it is."""
    problem = obstacle()
    assert problem is None or (problem.startswith("No real Asterisk") and "\n" not in problem)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_without_root_there_is_an_obstacle() -> None:
    """A process that gives its rights up sees it."""
    program = (
        "import os; from deploy.asterisk_rootfs import obstacle; os.setuid({}); print(obstacle())"
    )
    asked = subprocess.run(
        [sys.executable, "-c", program.format(NOBODY)],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "without root's rights" in asked.stdout


def test_checking_builds_nothing(broken_build: dict[str, str], tmp_path: Path) -> None:
    """`--check` says how things stand."""
    checked = run(broken_build, "--check")
    assert "not built yet" in checked.stdout or checked.stderr.startswith("No real Asterisk")
    assert not (tmp_path / "calls").exists()


def test_a_broken_build_is_not_kept(broken_build: dict[str, str], tmp_path: Path) -> None:
    """The error says what debootstrap said last; only the log and the lock stay."""
    if problem := obstacle():
        pytest.skip(problem)
    failed = run(broken_build)
    assert failed.returncode == 1
    assert "debootstrap failed" in failed.stderr
    assert "E: the mirror has gone away" in failed.stderr
    assert names(tmp_path) == [f"{rootfs_dir().name}{kept}" for kept in (".lock", ".log")]


def test_builders_wait_for_each_other(broken_build: dict[str, str], tmp_path: Path) -> None:
    """Two at once, and the ruins of a third that was killed: nothing half-built is left."""
    if problem := obstacle():
        pytest.skip(problem)
    ruins = tmp_path / "open-telephony-stack" / f"{rootfs_dir().name}.building-killed" / "usr"
    ruins.mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        failed = list(pool.map(run, [broken_build, broken_build]))
    assert [process.returncode for process in failed] == [1, 1]
    assert len((tmp_path / "calls").read_text().splitlines()) == 2
    assert names(tmp_path) == [f"{rootfs_dir().name}{kept}" for kept in (".lock", ".log")]


def test_signatures_are_checked(broken_build: dict[str, str], tmp_path: Path) -> None:
    """debootstrap skips verification without a keyring, unless it is told not to."""
    if problem := obstacle():
        pytest.skip(problem)
    run(broken_build)
    options = (tmp_path / "calls").read_text().split()
    assert "--force-check-gpg" in options
    assert "--no-check-gpg" not in options


def names(cache: Path) -> list[str]:
    """What is in the project's part of the cache folder."""
    return sorted(file.name for file in (cache / "open-telephony-stack").iterdir())
