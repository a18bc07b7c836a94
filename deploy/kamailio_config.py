"""Kamailio's configuration, in front of several Asterisk nodes, from the operator's settings.

    python -m deploy.kamailio_config --values /etc/open-telephony-stack/kamailio.env \\
        --out /etc/kamailio --owner kamailio

The templates are `deploy/kamailio/*`. The variables that Asterisk's configuration has too mean the
same: SIP_CERT_FILE, SIP_KEY_FILE, SIP_CA_FILE (what the nodes' certificates are checked with),
SIP_TLS_HOST, SIP_TLS_PORT, SIP_PUBLIC_HOST and CHIME_IN_ADDRESSES.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from deploy.conf_files import render_files, run_command
from deploy.settings import (
    ConfigurationError,
    Environment,
    Network,
    read_host,
    read_networks,
    read_number,
    read_path,
    read_port,
)
from deploy.sip_trunk import SYSTEM_CA

TEMPLATES = Path(__file__).parent / "kamailio"

IN_SERVICE = "*in-service"
"""The extension that a node has while it takes calls (deploy/asterisk/extensions.conf)."""

PROBE_SECONDS = range(1, 301)


class KamailioValues(msgspec.Struct, frozen=True, kw_only=True):
    """What the templates need. The defaults here are the only ones.

    `host` is what it listens on (one address), `public_host` what others reach it by, which its
    certificate is for. A node is HOST:PORT. It is asked every `probe_seconds` whether it is well.
    """

    host: str
    port: int = 5061
    public_host: str
    cert_file: str
    key_file: str
    ca_file: str = SYSTEM_CA
    callers: tuple[Network, ...]
    nodes: tuple[str, ...]
    probe_seconds: int = 5
    control_socket: str = "/run/kamailio/kamailio_ctl"

    def substitutions(self, directory: Path) -> dict[str, str | int]:
        """What each `@{name}` in a template becomes, when the files are used in `directory`."""
        return {
            **msgspec.structs.asdict(self),
            "directory": str(directory),
            "nodes": "\n".join(
                f"1 sip:*in-service@{node};transport=tls 0 0" for node in self.nodes
            ),
            "callers": "\n".join(
                f"1 {network.network_address} {network.prefixlen}" for network in self.callers
            ),
        }


def values_from_environment(environment: Environment) -> KamailioValues:
    """Read the settings. Raises ConfigurationError for what is missing or bad."""
    return KamailioValues(
        host=_required(read_host(environment, "SIP_TLS_HOST"), "SIP_TLS_HOST", "one address"),
        port=read_port(environment, "SIP_TLS_PORT", 5061),
        public_host=_required(
            read_host(environment, "SIP_PUBLIC_HOST"), "SIP_PUBLIC_HOST", "the certificate's name"
        ),
        cert_file=_required(read_path(environment, "SIP_CERT_FILE"), "SIP_CERT_FILE", "a path"),
        key_file=_required(read_path(environment, "SIP_KEY_FILE"), "SIP_KEY_FILE", "a path"),
        ca_file=read_path(environment, "SIP_CA_FILE", SYSTEM_CA),
        callers=read_networks(
            environment, "CHIME_IN_ADDRESSES", "the addresses that inbound calls come from"
        ),
        nodes=_nodes(environment),
        probe_seconds=read_number(environment, "PROBE_SECONDS", 5, PROBE_SECONDS),
    )


def render(values: KamailioValues, target_dir: Path, used_in: Path | None = None) -> None:
    """Write the configuration into `target_dir`, readable for its owner only.

    `used_in` is the directory as Kamailio sees it, where that is another one.
    """
    files = [path for path in TEMPLATES.iterdir() if path.is_file()]
    render_files(files, values.substitutions(used_in or target_dir.absolute()), target_dir)


def _required(text: str, name: str, what: str) -> str:
    if not text:
        raise ConfigurationError(f"{name} is not set: it must be {what}")
    return text


def _nodes(environment: Environment) -> tuple[str, ...]:
    """HOST or HOST:PORT, separated by blanks or commas; the port is 5061 where none is named."""
    texts = environment.get("ASTERISK_NODES", "").replace(",", " ").split()
    if not texts:
        raise ConfigurationError("ASTERISK_NODES is not set: it must list HOST:PORT of each node")
    return tuple(_node(text) for text in texts)


def _node(text: str) -> str:
    host, _, port = text.partition(":")
    parts = {"ASTERISK_NODES": host, "ASTERISK_NODES' port": port}
    number = read_port(parts, "ASTERISK_NODES' port", 5061)
    return f"{read_host(parts, 'ASTERISK_NODES')}:{number}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""

    def write(environment: Environment, target_dir: Path) -> None:
        render(values_from_environment(environment), target_dir)

    return run_command("deploy.kamailio_config", __doc__, write, arguments)


if __name__ == "__main__":
    sys.exit(main())
