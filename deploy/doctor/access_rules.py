"""Who could get at what: files others can read, doors that are open. Pure."""

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from deploy.doctor.facts import PathFacts
from deploy.doctor.finding import Finding, error, warning

OTHERS: Final = 0o077
"""Permission bits of group and others."""


class Doors(Struct, frozen=True):
    """Settings that open something."""

    http_host: str
    ari_base: str
    voice_agent_host: str
    signed: bool
    allow_unencrypted: bool


def judge_paths(paths: Sequence[PathFacts]) -> Iterator[Finding]:
    """Files and directories with secrets, or with what was said."""
    for each in paths:
        if each.mode & OTHERS:
            yield error(
                "access.mode",
                f"{each.path} ({each.setting}) has mode {each.mode:04o}",
                "other users of this machine can read secrets, or what was said",
                f"chmod go= {each.path}",
            )


def judge_doors(doors: Doors) -> Iterator[Finding]:
    """What can be reached from other machines."""
    if not is_loopback(doors.http_host):
        yield warning(
            "access.http",
            f"HTTP_HOST is {doors.http_host!r}",
            "/health and /metrics answer whoever reaches the port, without encryption",
            "HTTP_HOST=127.0.0.1 and a proxy with TLS, or a firewall",
        )
    url = urlsplit(doors.ari_base)
    if url.scheme == "http" and not is_loopback(url.hostname or "") and not doors.allow_unencrypted:
        yield error(
            "access.ari",
            f"ARI_BASE is {doors.ari_base!r}, plain HTTP to another machine",
            "the password of ARI and the callers' numbers can be read on the way",
            "Asterisk on this machine, or https://",
        )
    if not is_loopback(doors.voice_agent_host) and not doors.signed:
        yield error(
            "access.voice-agent",
            f"VOICE_AGENT_HOST is {doors.voice_agent_host!r} and TWILIO_AUTH_TOKEN is not set",
            "whoever reaches the port can talk to the agent",
            "VOICE_AGENT_HOST=127.0.0.1, or TWILIO_AUTH_TOKEN on both sides",
        )
    if doors.allow_unencrypted:
        yield warning(
            "access.unencrypted",
            "ALLOW_UNENCRYPTED is true",
            "audio may leave this machine as plain RTP or over ws://",
            "false, unless the network encrypts by itself (and your risk analysis says so)",
        )


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own, and nobody else's."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
