"""A small network on this machine: hosts are network namespaces on one Ethernet bridge.

They need no names and leave nothing: a namespace ends with its last process.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.asterisk_instance import wait_until
from tests.deploy.rootfs_program import in_rootfs

START_S = 10.0


class Host:
    """A network namespace with one address, kept by a process that sleeps."""

    def __init__(self, holder: subprocess.Popen[bytes], address: str) -> None:
        self.pid = holder.pid
        self.address = address

    def command(self, command: Sequence[str]) -> list[str]:
        """The command line that runs `command` there."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *command]


@contextmanager
def network(rootfs: Path, addresses: Sequence[str]) -> Iterator[list[Host]]:
    """Hosts with these addresses in one /24; the first one has the bridge."""
    with ExitStack() as ends:
        hosts = [Host(ends.enter_context(_namespace()), address) for address in addresses]
        first, *others = hosts
        _ip(rootfs, first, "link add br0 type bridge")
        for number, other in enumerate(others):
            link = f"link add port{number} type veth peer name eth0 netns {other.pid}"
            _ip(rootfs, first, link)
            _ip(rootfs, first, f"link set port{number} master br0 up")
            _bring_up(rootfs, other, "eth0")
        _bring_up(rootfs, first, "br0")
        yield hosts


@contextmanager
def _namespace() -> Iterator[subprocess.Popen[bytes]]:
    holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    try:
        ours, theirs = (f"/proc/{pid}/ns/net" for pid in (os.getpid(), holder.pid))
        wait_until(lambda: os.readlink(ours) != os.readlink(theirs), START_S, lambda: "no unshare")
        yield holder
    finally:
        holder.kill()
        holder.wait()


def _bring_up(rootfs: Path, host: Host, device: str) -> None:
    _ip(rootfs, host, f"addr add {host.address}/24 dev {device}")
    for name in ("lo", device):
        _ip(rootfs, host, f"link set {name} up")


def _ip(rootfs: Path, host: Host, arguments: str) -> None:
    """iproute2 of the root file system: the machine itself may have none."""
    command = host.command(in_rootfs(rootfs, Path("/tmp"), ["ip", *arguments.split()]))
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"ip {arguments}: {done.stderr}"
