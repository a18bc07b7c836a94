"""A root file system with Asterisk, SIP clients and Kamailio, for machines without Docker.

`python -m deploy.asterisk_rootfs` builds it with debootstrap from Debian testing, which takes about
a minute, into a cache folder outside of the checkout; `--check` only says how things stand.
The Asterisk in it is for tests and for trying things out: it is as new as the day it was built.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.cache import CacheError, cache_dir, last_line, locked, run_command

PACKAGES = (
    *("asterisk", "procps", "iproute2"),
    *("sip-tester", "baresip-core"),  # clients
    *("kamailio", "kamailio-tls-modules"),
)
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# Tried in a mount namespace of its own, so nothing of it stays.
TRY_MOUNTS = """
mount -t tmpfs tmpfs "$0"
mkdir "$0/lower" "$0/upper" "$0/work"
mount -t overlay -o "lowerdir=$0/lower,upperdir=$0/upper,workdir=$0/work" overlay "$0"
"""


class RootfsError(CacheError):
    """The root file system can't be built; the text says why."""


def rootfs_dir() -> Path:
    """Where the root file system is, or will be once it is built.

    Other packages make another directory: a checkout that wants the old one may be running.
    """
    contents = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:8]
    return cache_dir() / f"asterisk-testing-{contents}"


def obstacle() -> str | None:
    """Say in one sentence why no Asterisk can run from a root file system here; None if it can."""
    return _obstacle_to_running() or (None if rootfs_dir().is_dir() else _obstacle_to_building())


def ensure_rootfs() -> Path:
    """Return the root file system's directory; build it first if it isn't there.

    Only one process builds, others wait for it. What is there is always complete: it is built under
    another name and renamed at the end. Raises RootfsError if it can't be built.
    """
    target = rootfs_dir()
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.with_suffix(".lock")):
        if not target.is_dir():
            if problem := obstacle():
                raise RootfsError(problem)
            _build(target)
    return target


def _obstacle_to_running() -> str | None:
    if os.geteuid() != 0:
        return "No real Asterisk without root's rights: it runs in a root file system of its own."
    for tool in ("unshare", "nsenter", "mount", "chroot"):
        if shutil.which(tool) is None:
            return f"No real Asterisk without the program {tool!r} (deploy/setup.sh installs it)."
    with tempfile.TemporaryDirectory() as directory:
        tried = subprocess.run(
            ["unshare", "--mount", "sh", "-ec", TRY_MOUNTS, directory],
            capture_output=True,
            text=True,
        )
    if tried.returncode != 0:
        return f"No real Asterisk without the right to mount: {last_line(tried.stderr)}"
    return None


def _obstacle_to_building() -> str | None:
    if shutil.which("debootstrap") is None:
        return "No real Asterisk without debootstrap (on Debian, deploy/setup.sh installs it)."
    if not KEYRING.exists():
        return f"No real Asterisk without Debian's keys in {KEYRING} (deploy/setup.sh installs it)."
    try:
        _debian_mirror()
    except RootfsError as error:
        return str(error)
    return None


def _debian_mirror() -> str:
    """The URL from which this machine's apt takes Debian's main archive (not security updates)."""
    if shutil.which("apt-get") is None:
        raise RootfsError("No real Asterisk without apt: it is taken from Debian's archive.")
    query = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    criteria = ["Created-By: Packages", "Origin: Debian", "Label: Debian", "Component: main"]
    answer = subprocess.run([*query, *criteria], capture_output=True, text=True)
    mirrors = answer.stdout.split()
    if answer.returncode != 0 or not mirrors:
        raise RootfsError(
            "No real Asterisk: apt knows no archive of Debian's here,"
            " or has not been updated yet (apt-get update)."
        )
    return mirrors[0]


def _build(target: Path) -> None:
    """Build and check it next to `target`, then rename. The caller holds the lock."""
    for left_over in target.parent.glob(f"{target.name}.building-*"):
        shutil.rmtree(left_over)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{target.name}.building-", dir=target.parent))
    unfinished.chmod(0o755)
    log = target.with_suffix(".log")
    sys.stderr.write(f"Building {target} (about a minute, log in {log})\n")
    try:
        _debootstrap(unfinished, log)
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _debootstrap(directory: Path, log: Path) -> None:
    """Fill `directory`. Signatures are always checked: without a keyring debootstrap would not."""
    build = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    verify = ["--force-check-gpg", f"--keyring={KEYRING}"]
    commands = [
        [*build, *verify, "testing", str(directory), _debian_mirror()],
        ["chroot", str(directory), "apt-get", "clean"],
        ["chroot", str(directory), "asterisk", "-V"],
        ["chroot", str(directory), "sh", "-c", "command -v sipp baresip kamailio"],
    ]
    with log.open("w") as output:
        for command in commands:
            # debootstrap mounts /proc inside; in a namespace of its own no mount outlives a crash.
            ended = subprocess.run(
                ["unshare", "--mount", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                close_fds=False,  # see locked
            )
            if ended.returncode != 0:
                why = last_line(log.read_text(errors="replace"))
                raise RootfsError(f"{command[0]} failed (log in {log}): {why}")


def main() -> int:
    """The command line; returns the exit code."""
    return run_command("deploy.asterisk_rootfs", __doc__, ensure_rootfs, obstacle, _state)


def _state() -> str:
    return f"{rootfs_dir()}: {'built' if rootfs_dir().is_dir() else 'not built yet'}"


if __name__ == "__main__":
    sys.exit(main())
