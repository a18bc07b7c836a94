"""The trunk to the public telephone network: SIP over TLS with SRTP, as Amazon Chime speaks it.

Pure: settings in, values of the templates `deploy/asterisk/trunk/` out.
"""

import msgspec

from deploy.settings import (
    ConfigurationError,
    Environment,
    Network,
    read_host,
    read_networks,
    read_path,
    read_port,
    read_secret,
    read_switch,
)

SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"


class OutboundValues(msgspec.Struct, frozen=True, kw_only=True):
    """Where calls to the public network go, and who we are there (a Voice Connector's termination
    host and credentials)."""

    host: str
    port: int = 5061
    user: str
    password: str

    def substitutions(self) -> dict[str, str | int]:
        """What each `@{name}` of the templates `outbound/` becomes."""
        return {f"outbound_{name}": value for name, value in msgspec.structs.asdict(self).items()}


class TrunkValues(msgspec.Struct, frozen=True, kw_only=True):
    """What the trunk's templates need. Files are paths as Asterisk sees them.

    `public_host` is what SIP and SDP tell the other side when the machine's own address is a
    private one (an Elastic IP is translated); empty where the machine has its public address.
    `ca_file` is what the server of outbound calls is checked with. `behind_proxy` says that calls
    come through a proxy of ours, in whose way later requests must stay.
    """

    host: str = "0.0.0.0"  # the transport to the world, firewalled by `inbound`
    port: int = 5061
    public_host: str = ""
    cert_file: str
    key_file: str
    ca_file: str = SYSTEM_CA
    inbound: tuple[Network, ...]
    behind_proxy: bool = False
    outbound: OutboundValues | None = None

    def substitutions(self) -> dict[str, str | int]:
        """What each `@{name}` of the templates `trunk/` becomes."""
        return {
            "trunk_host": self.host,
            "trunk_port": self.port,
            "trunk_public_host": self.public_host,
            "trunk_cert_file": self.cert_file,
            "trunk_key_file": self.key_file,
            "trunk_ca_file": self.ca_file,
            "trunk_matches": "\n".join(f"match = {network}" for network in self.inbound),
            # A rewritten Record-Route would lead to the proxy's port of one connection.
            "trunk_rewrite_contact": "no" if self.behind_proxy else "yes",
            **(self.outbound.substitutions() if self.outbound else {}),
        }


def trunk_from_environment(environment: Environment) -> TrunkValues | None:
    """Read the trunk's settings; None if there is no certificate, as without one there is none.

    Raises ConfigurationError for what is missing or bad, and for a part of it without the rest.
    """
    cert_file = read_path(environment, "SIP_CERT_FILE")
    key_file = read_path(environment, "SIP_KEY_FILE")
    if not cert_file and not key_file:
        _refuse_leftovers(environment)
        return None
    if not cert_file or not key_file:
        raise ConfigurationError(
            f"SIP_CERT_FILE is {cert_file!r} and SIP_KEY_FILE is {key_file!r}:"
            " both must be set for SIP over TLS, or neither"
        )
    return TrunkValues(
        host=read_host(environment, "SIP_TLS_HOST", "0.0.0.0"),
        port=read_port(environment, "SIP_TLS_PORT", 5061),
        public_host=read_host(environment, "SIP_PUBLIC_HOST"),
        cert_file=cert_file,
        key_file=key_file,
        ca_file=read_path(environment, "SIP_CA_FILE", SYSTEM_CA),
        inbound=read_networks(
            environment, "CHIME_IN_ADDRESSES", "the addresses that inbound calls come from"
        ),
        behind_proxy=read_switch(environment, "SIP_BEHIND_PROXY"),
        outbound=_outbound(environment),
    )


def _refuse_leftovers(environment: Environment) -> None:
    for name in ("CHIME_IN_ADDRESSES", "CHIME_OUT_HOST"):
        if environment.get(name):
            raise ConfigurationError(
                f"{name} is {environment[name]!r} without SIP_CERT_FILE and SIP_KEY_FILE:"
                " the trunk speaks TLS only, so it needs both"
            )


def _outbound(environment: Environment) -> OutboundValues | None:
    host = read_host(environment, "CHIME_OUT_HOST")
    if not host:
        return None
    what = "the credentials of the trunk's outbound calls"
    return OutboundValues(
        host=host,
        port=read_port(environment, "CHIME_OUT_PORT", 5061),
        user=read_secret(environment, "CHIME_OUT_USER", what),
        password=read_secret(environment, "CHIME_OUT_PASS", what),
    )
