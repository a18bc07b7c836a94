"""What has to change so that exactly the wanted addresses are let in. Pure.

There are two places for an address range. Usually it is in the rules of a security group: one rule
for each range and port range. AWS allows a group so many rules (60 by default) for IPv4, and as
many for IPv6; when the old and the new ranges of a family don't fit in there together, this
family's ranges go into prefix lists. Each list is named by fixed rules in a further security group
of the instance, where it counts as its largest number of entries ("Amazon VPC quotas", Amazon VPC
User Guide): a list alone would gain nothing over rules, several groups do.

All additions come before all removals, so there is no moment in which an address that is let in
before and after is not. Rules and entries of others are neither changed nor removed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from deploy.aws_lambda.ranges import FAMILIES, Network, collapse, covered

LARGEST_LOSS = 0.5
"""A plan that takes away more than this share of what is let in is taken for a mistake."""


class RefusedError(Exception):
    """The change must not be made; the text says why, and what would allow it."""


class TooMuchRemovedError(RefusedError):
    """More would be removed than an update of AWS's ranges can be expected to."""


class DoesNotFitError(RefusedError):
    """Neither the security group nor the prefix lists have room for all ranges."""


@dataclass(frozen=True, slots=True)
class PortRange:
    """What a rule opens: `protocol` is tcp or udp, both ports are included."""

    name: str
    protocol: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule of the security group says, whoever made it."""

    protocol: str
    first: int
    last: int
    network: Network


@dataclass(frozen=True, slots=True)
class PrefixList:
    """A prefix list and its entries: `ours` by our description, and how many `foreign` ones."""

    list_id: str
    family: int
    max_entries: int
    ours: frozenset[Network] = frozenset()
    foreign: int = 0

    @property
    def room(self) -> int:
        """How many entries can be added."""
        return self.max_entries - len(self.ours) - self.foreign


@dataclass(frozen=True, slots=True)
class State:
    """What there is: `ours` are rules by their ids, `foreign` those that we didn't make.

    `references` is the number of foreign rules that name no addresses (another group, a prefix
    list): they count for both families.
    """

    ours: Mapping[str, Rule] = field(default_factory=dict)
    foreign: frozenset[Rule] = frozenset()
    references: int = 0
    lists: tuple[PrefixList, ...] = ()

    def networks(self, family: int) -> frozenset[Network]:
        """What we let in now."""
        ruled = {rule.network for rule in self.ours.values() if rule.network.version == family}
        return frozenset(ruled).union(*(one.ours for one in self.lists if one.family == family))


@dataclass(slots=True)
class Plan:
    """Changes: to be added first, `add_rules` and `add_entries`, and then what is to be removed.

    Entries are by prefix list; `remove_rules` are the ids of rules.
    """

    add_rules: list[tuple[PortRange, Network]] = field(default_factory=list)
    add_entries: dict[str, list[Network]] = field(default_factory=dict)
    remove_rules: list[str] = field(default_factory=list)
    remove_entries: dict[str, list[Network]] = field(default_factory=dict)

    @property
    def additions(self) -> int:
        """Rules and entries to add."""
        return len(self.add_rules) + sum(map(len, self.add_entries.values()))

    @property
    def removals(self) -> int:
        """Rules and entries to remove."""
        return len(self.remove_rules) + sum(map(len, self.remove_entries.values()))


def make_plan(
    state: State,
    wanted: Iterable[Network],
    ports: Iterable[PortRange],
    quota: int,
    large_loss_accepted: bool = False,
) -> Plan:
    """How to get from `state` to `wanted` networks, open for `ports`; `quota`: rules per family.

    Raises TooMuchRemovedError (unless accepted) and DoesNotFitError; then nothing may be changed.
    """
    wanted, ports = collapse(wanted), tuple(ports)
    plan = Plan()
    for family in FAMILIES:
        networks = frozenset(one for one in wanted if one.version == family)
        if not large_loss_accepted:
            _check_loss(state.networks(family), networks)
        _plan_family(plan, state, family, networks, ports, quota)
    return plan


def _check_loss(current: frozenset[Network], wanted: frozenset[Network]) -> None:
    """A range that became part of a larger one is not lost."""
    lost = [one for one in current if not covered(one, wanted)]
    if len(lost) > LARGEST_LOSS * len(current):
        raise TooMuchRemovedError(
            f"{len(lost)} of {len(current)} ranges would be removed, more than"
            f' {LARGEST_LOSS:.0%}; if that is right, run it with {{"accept_large_loss": true}}'
        )


def _plan_family(
    plan: Plan,
    state: State,
    family: int,
    networks: frozenset[Network],
    ports: tuple[PortRange, ...],
    quota: int,
) -> None:
    """Add one family's changes to the plan: all its ranges are in rules, or all in lists."""
    ours = {id_: rule for id_, rule in state.ours.items() if rule.network.version == family}
    foreign = {rule for rule in state.foreign if rule.network.version == family}
    lists = [one for one in state.lists if one.family == family]
    rules = {
        Rule(port.protocol, port.first, port.last, network): port
        for network in networks
        for port in ports
    }
    missing = sorted(rules.keys() - set(ours.values()) - foreign, key=_by_address)
    weight = len(foreign) + state.references + len(ours) + len(missing)
    if weight <= quota:
        plan.add_rules += [(rules[rule], rule.network) for rule in missing]
        _remove(plan, {id_: rule for id_, rule in ours.items() if rule not in rules}, lists, set())
    else:
        _fill_lists(plan, lists, networks, f"IPv{family}: {weight} rules, the quota is {quota}")
        _remove(plan, ours, lists, networks)


def _fill_lists(
    plan: Plan, lists: list[PrefixList], networks: frozenset[Network], need: str
) -> None:
    """Put what is in no list yet into the first list that has room."""
    held = frozenset[Network]().union(*(one.ours for one in lists))
    missing = sorted(networks - held, key=lambda network: network.network_address.packed)
    room = sum(max(one.room, 0) for one in lists)
    if len(missing) > room:
        raise DoesNotFitError(
            f"{need}, and {len(lists)} prefix lists have room for {room} more ranges of the"
            f" {len(missing)} that are needed: choose fewer services or regions, or have the quota"
            " (rules per security group) raised and RULE_QUOTA and the prefix lists made larger"
        )
    for one in lists:
        taken, missing = missing[: max(one.room, 0)], missing[max(one.room, 0) :]
        if taken:
            plan.add_entries[one.list_id] = taken


def _remove(
    plan: Plan,
    rules: Mapping[str, Rule],
    lists: Iterable[PrefixList],
    kept: Iterable[Network],
) -> None:
    """Remove these rules of ours, and the entries of ours that are not to be kept."""
    plan.remove_rules += sorted(rules)
    for one in lists:
        if gone := one.ours - frozenset(kept):
            plan.remove_entries[one.list_id] = sorted(gone, key=str)


def _by_address(rule: Rule) -> tuple[bytes, int, str, int]:
    network = rule.network
    return network.network_address.packed, network.prefixlen, rule.protocol, rule.first
