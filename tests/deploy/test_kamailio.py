"""Kamailio before two Asterisk nodes, each a host of its own: calls go where they are served."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from deploy.certificates.deploy_hook import install
from deploy.kamailio_config import render, values_from_environment
from tests.asterisk_instance import AsteriskInstance, wait_until
from tests.deploy.network import Host, network
from tests.deploy.rootfs_program import in_rootfs, running
from tests.deploy.secure_trunk import KEYS, Authority
from tests.deploy.sipp import LONG_CALL, SHORT_CALL, outcome, sipp

pytestmark = pytest.mark.asterisk

PROXY, NODES, CALLER = "10.77.0.1", ("10.77.0.11", "10.77.0.12"), "10.77.0.20"
PATIENCE_S = 20.0

WAITING = """
[after-agent](+)
exten => fallback,1,Wait(120)
 same => n,Hangup()
"""


class Cluster:
    """The proxy, the nodes, and where calls come from."""

    def __init__(self, rootfs: Path, directory: Path, hosts: list[Host]) -> None:
        self._rootfs, self._directory = rootfs, directory
        self.proxy, *nodes, self.caller = hosts
        self.authority = Authority(directory / "authority")
        self.authority.renew(*(host.address for host in hosts))
        self.nodes = [self._node(host) for host in nodes]
        self.asterisk = dict(zip(NODES, self.nodes, strict=True))

    def kamailio(self) -> list[str]:
        """Its command line; its configuration is written."""
        directory = self._with_certificate("kamailio")
        values = values_from_environment(
            {
                "SIP_TLS_HOST": PROXY,
                "SIP_PUBLIC_HOST": PROXY,
                "SIP_CERT_FILE": "/mnt/cert.pem",
                "SIP_KEY_FILE": "/mnt/key.pem",
                "SIP_CA_FILE": "/mnt/ca.pem",
                "CHIME_IN_ADDRESSES": CALLER,
                "ASTERISK_NODES": ", ".join(NODES),
                "PROBE_SECONDS": "1",
            }
        )
        values = msgspec.structs.replace(values, control_socket="/mnt/control")
        render(values, directory, used_in=Path("/mnt"))
        memory = ["-m", "64", "-M", "8"]
        command = ["kamailio", "-DD", "-E", "-Y", "/tmp", "-f", "/mnt/kamailio.cfg", *memory]
        return self.proxy.command(in_rootfs(self._rootfs, directory, command))

    def ask_kamailio(self, command: str) -> str:
        """What a command of its control socket says."""
        ask = ["kamcmd", "-s", "unix:/mnt/control", command]
        enter = in_rootfs(self._rootfs, self._directory / "kamailio", ask)
        return subprocess.run(enter, capture_output=True, text=True).stdout

    def renew(self) -> None:
        """Give Kamailio another certificate while it runs."""
        self.authority.renew(PROXY)
        self._with_certificate("kamailio")
        self.ask_kamailio("tls.reload")

    def shown_certificate(self) -> str:
        """What a new connection of a caller sees."""
        look = f"import ssl; print(ssl.get_server_certificate(({PROXY!r}, 5061)))"
        command = self.caller.command([sys.executable, "-c", look])
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def in_service(self) -> set[str]:
        """The nodes that Kamailio sends calls to."""
        told = self.ask_kamailio("dispatcher.list")
        entries = told.split("URI: sip:*in-service@")[1:]  # each begins with the address
        return {entry.partition(":")[0] for entry in entries if "FLAGS: A" in entry}

    def until_in_service(self, nodes: set[str]) -> None:
        """Wait until the probes have told Kamailio."""
        wait_until(lambda: self.in_service() == nodes, PATIENCE_S, lambda: str(self.in_service()))

    def sipp(self, scenario: str, *arguments: str, name: str = "sipp") -> list[str]:
        """SIPp's command line."""
        where = self._with_certificate(name)
        call = sipp(self._rootfs, where, scenario, ["-i", CALLER, *arguments, f"{PROXY}:5061"])
        return self.caller.command(call)

    def call(self, calls: int) -> dict[str, int]:
        """Make short calls, none of which may fail; how many each node that runs has got."""
        before = self.served()
        command = self.sipp(SHORT_CALL, "-m", str(calls), "-r", "10")
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
        assert not (problem := outcome(ended, self._directory / "sipp")), problem
        return {node: served - before[node] for node, served in self.served().items()}

    def served(self) -> dict[str, int]:
        """How many calls each node that runs has had since its start."""
        told = {
            address: re.search(r"(\d+) calls? processed", node.cli("core show channels count"))
            for address, node in self.asterisk.items()
            if node.process is not None
        }
        return {address: int(found[1]) if found else 0 for address, found in told.items()}

    def _with_certificate(self, name: str) -> Path:
        directory = self._directory / name
        self.authority.copy_to(directory)
        return directory

    def _node(self, host: Host) -> AsteriskInstance:
        settings = {
            "SIP_CERT_FILE": f"{KEYS}/current/cert.pem",
            "SIP_KEY_FILE": f"{KEYS}/current/key.pem",
            "SIP_CA_FILE": f"{KEYS}/ca.pem",
            "CHIME_IN_ADDRESSES": PROXY,
            "SIP_BEHIND_PROXY": "true",
        }
        directory = self._directory / host.address
        node = AsteriskInstance(directory, settings=settings, enter=host.command)
        install(self.authority.lineage, directory / "etc" / "keys")
        self.authority.ca.cert_pem.write_to_path(str(directory / "etc" / "keys" / "ca.pem"))
        (directory / "etc" / "custom").mkdir()
        (directory / "etc" / "custom" / "extensions.conf").write_text(WAITING)
        return node


@pytest.fixture
def cluster(asterisk_rootfs: Path, tmp_path: Path) -> Iterator[Cluster]:
    """Two nodes in service."""
    with network(asterisk_rootfs, [PROXY, *NODES, CALLER]) as hosts:
        cluster = Cluster(asterisk_rootfs, tmp_path, hosts)
        with (
            cluster.nodes[0],
            cluster.nodes[1],
            running(cluster.kamailio(), tmp_path / "kamailio.log"),
        ):
            try:
                cluster.until_in_service(set(NODES))
                yield cluster
            finally:
                print((tmp_path / "kamailio.log").read_text())  # noqa: T201


def test_two_nodes(cluster: Cluster, tmp_path: Path) -> None:
    """Calls are balanced; one node drains, ends and comes back, the other is killed: none fails.

    Nor does any when Kamailio's certificate is renewed meanwhile.
    """
    first, second = NODES
    draining, killed = cluster.nodes
    assert cluster.call(10) == {first: 5, second: 5}

    long_calls = cluster.sipp(LONG_CALL, "-m", "2", "-r", "10", name="long")
    with running(long_calls, tmp_path / "long.log") as long:
        wait_until(lambda: set(busy(cluster)) == set(NODES), PATIENCE_S, lambda: "calls are up")
        before = cluster.shown_certificate()
        cluster.renew()  # the calls of before it end well below
        assert cluster.shown_certificate() != before
        draining.cli("dialplan remove extension *in-service@inbound")
        cluster.until_in_service({second})
        assert cluster.call(6) == {first: 0, second: 6}
        assert busy(cluster) == [first, second], "the call of the node that drains goes on"
        for node in cluster.nodes:
            node.cli("channel request hangup all")
        assert long.wait(PATIENCE_S) == 0, (tmp_path / "long.log").read_text()

    draining.stop()
    assert cluster.call(4) == {second: 4}
    draining.start()
    cluster.until_in_service(set(NODES))
    assert cluster.call(4) == {first: 2, second: 2}

    killed.kill()
    assert cluster.call(4) == {first: 4}, "even before a probe has noticed"
    cluster.until_in_service({first})
    assert cluster.call(4) == {first: 4}


def busy(cluster: Cluster) -> list[str]:
    """The nodes with calls."""
    return [
        address
        for address, node in cluster.asterisk.items()
        if not node.cli("core show channels count").startswith("0 active channels")
    ]
