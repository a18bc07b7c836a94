"""Programs of the root file system: SIP clients, Kamailio. They see a directory of ours as /mnt."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

STOP_S = 3.0

# $1: the root file system, $2: our directory; the rest is the command. In a mount namespace of its
# own: what the program writes elsewhere than to /mnt is lost, and nothing stays mounted.
ENTER = """
root=$1; directory=$2; shift 2
mount --bind "$directory" "$root/mnt"
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/run"
exec chroot "$root" "$@"
"""


def in_rootfs(rootfs: Path, directory: Path, command: Sequence[str]) -> list[str]:
    """The command line that runs `command` there."""
    enter = ["unshare", "--mount", "sh", "-euc", ENTER, "in_rootfs"]
    return [*enter, str(rootfs), str(directory), *command]


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the end of the block; what it prints goes to `log`.

    It gets a SIGTERM and a few seconds, so that it can finish what it writes.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
