"""Reading of settings from environment variables. Pure: a mapping in, values or one error out."""

import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network

PORTS = range(1024, 65536)
"""Asterisk runs without root's rights, so it cannot bind a port below 1024."""

Environment = Mapping[str, str]
Network = IPv4Network | IPv6Network


class ConfigurationError(Exception):
    """A setting is missing or bad; the text names it, its value and what is allowed."""


def read_port(environment: Environment, name: str, default: int) -> int:
    """A port above 1023; unset or empty is the default."""
    return read_number(environment, name, default, PORTS, "a port")


def read_number(
    environment: Environment, name: str, default: int, allowed: range, what: str = "a whole number"
) -> int:
    """A number within `allowed`; unset or empty is the default."""
    text = environment.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or int(text) not in allowed:
        raise ConfigurationError(
            f"{name} is {text!r}: it must be {what} from {allowed.start} to {allowed.stop - 1}"
        )
    return int(text)


def read_word(environment: Environment, name: str, default: str) -> str:
    """A name that is also safe as a section name and as an argument in the dialplan."""
    text = environment.get(name) or default
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise ConfigurationError(
            f"{name} is {text!r}: it must be 1 to 64 letters, digits, '-' or '_'"
        )
    return text


def read_switch(environment: Environment, name: str) -> bool:
    """`true` or `false`; unset or empty is false."""
    text = environment.get(name) or "false"
    if text not in ("true", "false"):
        raise ConfigurationError(f"{name} is {text!r}: it must be true or false")
    return text == "true"


def read_choice(environment: Environment, name: str, allowed: tuple[str, ...]) -> str:
    """One of a few words; the first is the default."""
    text = environment.get(name) or allowed[0]
    if text not in allowed:
        raise ConfigurationError(f"{name} is {text!r}: it must be {' or '.join(allowed)}")
    return text


def read_secret(environment: Environment, name: str, what: str) -> str:
    """A value of a `.conf` file, where `;` begins a comment and `\\` escapes. Never in an error."""
    text = environment.get(name, "")
    if not text:
        raise ConfigurationError(f"{name} is not set: it must hold {what}")
    if not re.fullmatch(r"[!-~]+", text) or set(text) & set(";\\"):
        raise ConfigurationError(
            f"{name} (not shown) must be printable ASCII without blanks, ';' and '\\'"
        )
    return text


def read_host(environment: Environment, name: str, default: str = "") -> str:
    """A DNS name or an IPv4 address; unset or empty is the default."""
    text = environment.get(name) or default
    if text and not re.fullmatch(r"(?=.{1,253}\Z)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*", text):
        raise ConfigurationError(f"{name} is {text!r}: it must be a host name or an IPv4 address")
    return text


def read_path(environment: Environment, name: str, default: str = "") -> str:
    """An absolute path; unset or empty is the default."""
    text = environment.get(name) or default
    if text and not re.fullmatch(r"/[A-Za-z0-9._/@+-]*", text):
        raise ConfigurationError(
            f"{name} is {text!r}: it must be an absolute path of letters, digits and ._/@+-"
        )
    return text


def read_networks(environment: Environment, name: str, what: str) -> tuple[Network, ...]:
    """Addresses and networks in CIDR notation, separated by blanks or commas; at least one."""
    texts = environment.get(name, "").replace(",", " ").split()
    if not texts:
        raise ConfigurationError(f"{name} is not set: it must list {what}, e.g. 192.0.2.0/24")
    networks = tuple(_network(name, text) for text in texts)
    for network in networks:
        if network.prefixlen == 0:
            raise ConfigurationError(f"{name} has {str(network)!r}: the whole world is not allowed")
    return networks


def _network(name: str, text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise ConfigurationError(
            f"{name} has {text!r}: it must be an address or a network like 192.0.2.0/24"
        ) from error
