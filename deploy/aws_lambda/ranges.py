"""AWS's published address ranges: what is in the document, and which of it is wanted. Pure.

Format: "Syntax for AWS IP address range JSON" in the Amazon VPC User Guide. An IPv4 range is
`{"ip_prefix": "3.80.16.0/23", "region": "us-east-1", "service": "CHIME_VOICECONNECTOR", ...}` in
`prefixes`; an IPv6 range has `ipv6_prefix`, and is in `ipv6_prefixes`.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import Any

Network = IPv4Network | IPv6Network

FAMILIES = (4, 6)
"""The versions of IP, which have quotas and prefix lists of their own."""

EVERY_REGION = "*"


class BrokenDocumentError(Exception):
    """The published ranges are not what they should be; the text says in what way."""


@dataclass(frozen=True, slots=True)
class PublishedRange:
    """One range, the service that uses it, and the region where it does."""

    network: Network
    service: str
    region: str


def read_ranges(document: bytes, md5: str = "") -> list[PublishedRange]:
    """All ranges of the document. `md5` is its hash in hex digits, if that is known.

    Raises BrokenDocumentError.
    """
    found = hashlib.md5(document, usedforsecurity=False).hexdigest()
    if md5 and found != md5.lower():
        raise BrokenDocumentError(f"the document's MD5 is {found}, announced was {md5}")
    try:
        content = json.loads(document)
        return [*_ranges(content, "prefixes", 4), *_ranges(content, "ipv6_prefixes", 6)]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BrokenDocumentError(f"not a document of address ranges: {error!r}") from error


def _ranges(content: Mapping[str, Any], key: str, family: int) -> Iterator[PublishedRange]:
    name = "ip_prefix" if family == 4 else "ipv6_prefix"
    for entry in content[key]:
        network = ip_network(entry[name])
        if network.version != family or network.prefixlen == 0:
            raise ValueError(f"{entry[name]} in {key}")
        yield PublishedRange(network, str(entry["service"]), str(entry["region"]))


def choose(
    ranges: Iterable[PublishedRange],
    services: Iterable[str],
    regions: Iterable[str],
    extra: Iterable[Network] = (),
) -> frozenset[Network]:
    """The fewest networks that hold the ranges of these services in these regions (`*`: in all).

    `extra` are networks that AWS names elsewhere only; they must lie within what it publishes for
    whichever service. Raises BrokenDocumentError if one doesn't, and if a service has no range in
    these regions, or a region none of these services: the document is incomplete, or the name is
    misspelt.
    """
    ranges, services, regions = list(ranges), frozenset(services), frozenset(regions)
    chosen = [
        entry
        for entry in ranges
        if entry.service in services and (entry.region in regions or EVERY_REGION in regions)
    ]
    missing = services - {entry.service for entry in chosen}
    missing |= regions - {entry.region for entry in chosen} - {EVERY_REGION}
    if missing or not chosen:
        raise BrokenDocumentError(f"no address ranges for {', '.join(sorted(missing))}")
    aws = collapse(entry.network for entry in ranges)
    strange = [str(network) for network in extra if not covered(network, aws)]
    if strange:
        raise BrokenDocumentError(f"not among AWS's published ranges: {', '.join(strange)}")
    return collapse([*(entry.network for entry in chosen), *extra])


def collapse(networks: Iterable[Network]) -> frozenset[Network]:
    """The fewest networks that hold the same addresses."""
    every = list(networks)
    return frozenset(
        [
            *collapse_addresses(one for one in every if isinstance(one, IPv4Network)),
            *collapse_addresses(one for one in every if isinstance(one, IPv6Network)),
        ]
    )


def covered(network: Network, wanted: Iterable[Network]) -> bool:
    """Whether a network lies within one of these."""
    return any(
        network.version == other.version and network.subnet_of(other)  # type: ignore[arg-type]
        for other in wanted
    )
