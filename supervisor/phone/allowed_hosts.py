"""Which hosts may be asked for TwiML and sounds, and told of calls. Pure.

TwiML comes from elsewhere and names URLs; without a bound it could make this machine ask any
service of the internal network (server-side request forgery).
"""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from msgspec import Struct


class AllowedHosts(Struct, frozen=True):
    """`names` may have any address; of what only `patterns` match, the address must be public.

    A pattern is `*.example.com`, or `*` for all.
    """

    names: frozenset[str]
    patterns: tuple[str, ...] = ()

    def check(self, url: str, schemes: tuple[str, ...] = ("https", "http")) -> str:
        """The URL itself, if its host is allowed.

        Raises:
            ValueError: names the URL's host and what is allowed.
        """
        host = _host(url, schemes)
        if not host:
            allowed = " or ".join(f"{scheme}://host/..." for scheme in schemes)
            raise ValueError(f"the URL {url[:200]!r} can't be used, allowed is {allowed}")
        if "@" in urlsplit(url).netloc:
            raise ValueError(f"the URL of {host!r} holds a password, allowed is one without")
        if host not in self.names and not self._is_public_match(host):
            allowed = ", ".join(sorted([*self.names, *self.patterns])) or "none"
            raise ValueError(f"the host {host!r} isn't in WEBHOOK_HOSTS, allowed: {allowed}")
        return url

    def needs_public_address(self, host: str) -> bool:
        """Whether only a pattern allows this host."""
        return host.lower() not in self.names

    def _is_public_match(self, host: str) -> bool:
        if is_private(host):
            return False
        return any(
            pattern == "*" or (pattern.startswith("*.") and host.endswith(pattern[1:]))
            for pattern in self.patterns
        )


def read_hosts(text: str, configured_urls: Iterable[str]) -> AllowedHosts:
    """WEBHOOK_HOSTS, separated by commas, and the hosts of the operator's own URLs."""
    given = [part.strip().lower() for part in text.split(",") if part.strip()]
    own = {(urlsplit(url).hostname or "").lower() for url in configured_urls} - {""}
    names = own | {name for name in given if "*" not in name}
    return AllowedHosts(frozenset(names), tuple(name for name in given if "*" in name))


def is_private(address: str) -> bool:
    """Whether this is an IP address that is not of the public internet, or "localhost"."""
    if address == "localhost":
        return True
    try:
        return not ipaddress.ip_address(address.strip("[]")).is_global
    except ValueError:
        return False


def _host(url: str, schemes: tuple[str, ...]) -> str:
    """The URL's host in small letters; "" if it is no URL of these schemes."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in schemes and parts.port != 0
    except ValueError:
        return ""
    return (parts.hostname or "").lower() if usable else ""
