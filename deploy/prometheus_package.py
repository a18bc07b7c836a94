"""Debian's Prometheus and promtool, without installing them: for tests and for trying things out.

`python -m deploy.prometheus_package` takes the package from this machine's own archive (apt checks
its signature) and unpacks it into the cache folder, where nothing starts by itself; `--check` only
says how things stand. Programs on PATH are as good and are taken first.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.cache import CacheError, cache_dir, last_line, locked, run_command

PACKAGE = "prometheus"
PROGRAMS = ("prometheus", "promtool")


class PrometheusError(CacheError):
    """Prometheus can't be had here; the text says why."""


def programs_dir() -> Path:
    """Where the programs are, or will be once they are unpacked."""
    found = shutil.which("prometheus")
    if found is not None and shutil.which("promtool", path=str(Path(found).parent)):
        return Path(found).parent
    return cache_dir() / PACKAGE / "usr" / "bin"


def obstacle() -> str | None:
    """Say in one sentence why there is no Prometheus here; None if there is or can be."""
    if _is_there() or all(shutil.which(tool) for tool in ("apt-get", "dpkg-deb")):
        return None
    return "No Prometheus: it is not on PATH, and without apt and dpkg it can't be unpacked."


def ensure_prometheus() -> Path:
    """Return the folder with both programs; fetch and unpack them first if they aren't there.

    Only one process does so, others wait for it. Raises PrometheusError if it can't be done.
    """
    target = cache_dir() / PACKAGE
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.with_suffix(".lock")):
        if not _is_there():
            if problem := obstacle():
                raise PrometheusError(problem)
            _unpack(target)
    return programs_dir()


def _is_there() -> bool:
    return all((programs_dir() / program).is_file() for program in PROGRAMS)


def _unpack(target: Path) -> None:
    """Fetch the package and unpack it under another name, then rename."""
    shutil.rmtree(target, ignore_errors=True)
    sys.stderr.write(f"Fetching Debian's package {PACKAGE} into {target}\n")
    with tempfile.TemporaryDirectory(prefix=f"{PACKAGE}-", dir=target.parent) as directory:
        # apt's own user has no right to write there, so root fetches; the signature is checked.
        fetch = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", PACKAGE]
        try:
            _run(fetch, directory)
        except PrometheusError:  # the package lists are missing or too old
            _run(["apt-get", "-qq", "update"], directory)
            _run(fetch, directory)
        (package,) = Path(directory).glob("*.deb")
        _run(["dpkg-deb", "--extract", package.name, "unpacked"], directory)
        (Path(directory) / "unpacked").rename(target)


def _run(command: list[str], directory: str) -> None:
    ended = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    if ended.returncode != 0:
        why = last_line(ended.stderr)
        raise PrometheusError(f"No Prometheus: {command[0]} failed: {why}")


def main() -> int:
    """The command line; returns the exit code."""
    module = "deploy.prometheus_package"
    return run_command(module, __doc__, ensure_prometheus, obstacle, _state)


def _state() -> str:
    return f"{programs_dir()}: {'there' if _is_there() else 'not there yet'}"


if __name__ == "__main__":
    sys.exit(main())
