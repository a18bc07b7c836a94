"""Kamailio's configuration as text: what the operator's values become, and what is refused."""

import subprocess
from pathlib import Path

import pytest

from deploy.kamailio_config import render, values_from_environment
from deploy.settings import ConfigurationError
from tests.deploy.rootfs_program import in_rootfs
from tests.deploy.secure_trunk import Authority

SETTINGS = {
    "SIP_TLS_HOST": "192.0.2.10",
    "SIP_PUBLIC_HOST": "sip.example.org",
    "SIP_CERT_FILE": "/etc/kamailio/keys/current/cert.pem",
    "SIP_KEY_FILE": "/etc/kamailio/keys/current/key.pem",
    "CHIME_IN_ADDRESSES": "198.51.100.0/24 203.0.113.7",
    "ASTERISK_NODES": "node-1.example.org, 10.0.0.2:5071",
}


def test_nodes_and_callers(tmp_path: Path) -> None:
    """One line each; a node without a port has that of SIP over TLS."""
    render(values_from_environment(SETTINGS), tmp_path)
    nodes = (tmp_path / "dispatcher.list").read_text().splitlines()[1:]
    assert nodes == [
        "1 sip:*in-service@node-1.example.org:5061;transport=tls 0 0",
        "1 sip:*in-service@10.0.0.2:5071;transport=tls 0 0",
    ]
    callers = (tmp_path / "address.list").read_text().splitlines()[1:]
    assert callers == ["1 198.51.100.0 24", "1 203.0.113.7 32"]
    main = (tmp_path / "kamailio.cfg").read_text()
    assert "listen=tls:192.0.2.10:5061 advertise sip.example.org:5061" in main
    assert f'"{tmp_path}/dispatcher.list"' in main
    assert "@{" not in main


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ASTERISK_NODES": ""}, "ASTERISK_NODES is not set: "),
        ({"ASTERISK_NODES": "a b:x"}, "ASTERISK_NODES' port is 'x': "),
        ({"ASTERISK_NODES": "a/b"}, "ASTERISK_NODES is 'a/b': "),
        ({"CHIME_IN_ADDRESSES": ""}, "CHIME_IN_ADDRESSES is not set: "),
        ({"SIP_TLS_HOST": ""}, "SIP_TLS_HOST is not set: "),
        ({"SIP_PUBLIC_HOST": ""}, "SIP_PUBLIC_HOST is not set: "),
        ({"SIP_CERT_FILE": ""}, "SIP_CERT_FILE is not set: "),
        ({"PROBE_SECONDS": "0"}, "PROBE_SECONDS is '0': .*1 to 300"),
    ],
)
def test_bad_values_are_named(change: dict[str, str], message: str) -> None:
    """One error names the variable, the value and what is allowed."""
    with pytest.raises(ConfigurationError, match=message):
        values_from_environment(SETTINGS | change)


@pytest.mark.asterisk
def test_kamailio_takes_it(asterisk_rootfs: Path, tmp_path: Path) -> None:
    """The real one checks its syntax, modules and parameters."""
    authority = Authority(tmp_path / "authority")
    authority.ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    files = {
        "SIP_TLS_HOST": "127.0.0.1",
        "SIP_PUBLIC_HOST": "127.0.0.1",
        "SIP_CERT_FILE": "/mnt/authority/lineage/fullchain.pem",
        "SIP_KEY_FILE": "/mnt/authority/lineage/privkey.pem",
        "SIP_CA_FILE": "/mnt/ca.pem",
    }
    render(values_from_environment(SETTINGS | files), tmp_path, used_in=Path("/mnt"))
    command = ["kamailio", "-c", "-f", "/mnt/kamailio.cfg", "-m", "64", "-M", "8"]
    checked = subprocess.run(
        in_rootfs(asterisk_rootfs, tmp_path, command), capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
    assert "config file ok" in checked.stderr
    assert "ERROR" not in checked.stderr
