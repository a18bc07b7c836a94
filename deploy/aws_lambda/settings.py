"""The Lambda's settings, from its environment variables. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network

from deploy.aws_lambda.plan import PortRange
from deploy.aws_lambda.ranges import Network

DEFAULTS = {
    "SERVICES": "CHIME_VOICECONNECTOR",
    "EXTRA_RANGES": "",
    "PORTS": "sip:tcp:5061-5061,rtp:udp:10000-19999",
    "RULE_QUOTA": "60",
    "PREFIX_LIST_IDS": "",
    "DRY_RUN": "false",
}
"""SECURITY_GROUP_ID and REGIONS have none."""

FORMS = {
    "SECURITY_GROUP_ID": (r"sg-[0-9a-f]+", "sg- and hex digits"),
    "REGIONS": (r"(\*|[a-zA-Z0-9-]+)(,[a-zA-Z0-9-]+)*", "regions with commas between, or *"),
    "SERVICES": (r"[A-Z0-9_]+(,[A-Z0-9_]+)*", "names of services with commas between"),
    "EXTRA_RANGES": (r"|[0-9a-f.:]+/\d+(,[0-9a-f.:]+/\d+)*", "networks with commas between"),
    "PORTS": (
        r"\w+:(tcp|udp):\d{1,5}-\d{1,5}(,\w+:(tcp|udp):\d{1,5}-\d{1,5})*",
        "name:tcp:first-last or name:udp:first-last, with commas between",
    ),
    "RULE_QUOTA": (r"[1-9]\d{0,3}", "1 to 9999"),
    "PREFIX_LIST_IDS": (r"|pl-[0-9a-f]+(,pl-[0-9a-f]+)*", "pl-..., with commas between"),
    "DRY_RUN": (r"true|false", "true or false"),
}


class SettingError(Exception):
    """A setting is missing or bad; the text names it, its value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is kept equal to which ranges.

    `extra_ranges`: networks beside those of the services, see `ranges.choose`. `rule_quota`: rules
    that AWS allows the security group, for each family of addresses.
    """

    security_group_id: str
    prefix_list_ids: tuple[str, ...]
    services: tuple[str, ...]
    regions: tuple[str, ...]
    extra_ranges: tuple[Network, ...]
    ports: tuple[PortRange, ...]
    rule_quota: int
    dry_run: bool


def settings_from(environment: Mapping[str, str]) -> Settings:
    """The settings in these variables. Raises SettingError."""
    values = {name: environment.get(name) or DEFAULTS.get(name, "") for name in FORMS}
    for name, (form, allowed) in FORMS.items():
        if not re.fullmatch(form, values[name]):
            raise SettingError(f"{name} is {values[name]!r}, allowed is: {allowed}")
    return Settings(
        security_group_id=values["SECURITY_GROUP_ID"],
        prefix_list_ids=tuple(filter(None, values["PREFIX_LIST_IDS"].split(","))),
        services=tuple(values["SERVICES"].split(",")),
        regions=tuple(values["REGIONS"].split(",")),
        extra_ranges=tuple(_networks(values["EXTRA_RANGES"])),
        ports=tuple(_port_range(text) for text in values["PORTS"].split(",")),
        rule_quota=int(values["RULE_QUOTA"]),
        dry_run=values["DRY_RUN"] == "true",
    )


def _networks(text: str) -> Iterator[Network]:
    for part in filter(None, text.split(",")):
        try:
            yield ip_network(part)
        except ValueError as error:
            raise SettingError(
                f"EXTRA_RANGES has {part!r}, allowed are networks: {error}"
            ) from error


def _port_range(text: str) -> PortRange:
    name, protocol, ports = text.split(":")
    first, last = (int(port) for port in ports.split("-"))
    if not 1 <= first <= last <= 65535:
        raise SettingError(f"PORTS has {text!r}, allowed are ports 1 to 65535, the lower one first")
    return PortRange(name, protocol, first, last)
