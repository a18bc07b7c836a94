"""The security group and the prefix lists in EC2: what is in them, and carrying out a plan."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_network
from typing import TYPE_CHECKING, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from deploy.aws_lambda.plan import Plan, PortRange, PrefixList, Rule, State
from deploy.aws_lambda.ranges import Network

if TYPE_CHECKING:  # Lambda's runtime has no stubs
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.type_defs import IpPermissionTypeDef, SecurityGroupRuleTypeDef

OURS = "open-telephony-stack: "
"""How the description of each rule and entry of ours begins; nothing else is touched."""

BATCH = 100
"""Changes in one request: the most that ModifyManagedPrefixList takes."""

LIST_CHANGE_SECONDS = 60.0
"""How long a prefix list may take to get its new version."""

LIST_POLL_SECONDS = 1.0


Change = TypeVar("Change")


class ListNotChangedError(Exception):
    """A prefix list didn't get its new version; the text says what AWS says of it."""


@dataclass(slots=True)
class Outcome:
    """What was done: numbers of rules and entries, and what AWS refused, in words."""

    added: int = 0
    removed: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SecurityGroup:
    """One security group, and the prefix lists that take what doesn't fit into it."""

    ec2: "EC2Client"
    group_id: str
    list_ids: tuple[str, ...] = ()

    def read(self) -> State:
        """What there is now. Raises ClientError and BotoCoreError."""
        ours: dict[str, Rule] = {}
        foreign: set[Rule] = set()
        references = 0
        for entry in self._entries():
            rule = _rule(entry)
            if rule is None:
                references += 1
            elif entry.get("Description", "").startswith(OURS):
                ours[entry["SecurityGroupRuleId"]] = rule
            else:
                foreign.add(rule)
        return State(ours, frozenset(foreign), references, tuple(self._lists()))

    def carry_out(self, plan: Plan) -> Outcome:
        """Make all additions, and then the removals; none of these if an addition failed."""
        outcome = Outcome()
        outcome.added += _attempt(outcome, "add rules", plan.add_rules, self._authorize)
        for list_id, networks in plan.add_entries.items():
            enlarge = partial(self._enlarge, list_id)
            outcome.added += _attempt(outcome, f"add to {list_id}", networks, enlarge)
        if outcome.failures:
            return outcome
        outcome.removed += _attempt(outcome, "remove rules", plan.remove_rules, self._revoke)
        for list_id, networks in plan.remove_entries.items():
            reduce = partial(self._reduce, list_id)
            outcome.removed += _attempt(outcome, f"remove from {list_id}", networks, reduce)
        return outcome

    def _entries(self) -> Iterator["SecurityGroupRuleTypeDef"]:
        pages = self.ec2.get_paginator("describe_security_group_rules").paginate(
            Filters=[{"Name": "group-id", "Values": [self.group_id]}]
        )
        for page in pages:
            yield from (rule for rule in page["SecurityGroupRules"] if not rule["IsEgress"])

    def _lists(self) -> Iterator[PrefixList]:
        if not self.list_ids:  # for EC2, no ids mean all lists
            return
        found = self.ec2.describe_managed_prefix_lists(PrefixListIds=list(self.list_ids))
        described = {one["PrefixListId"]: one for one in found["PrefixLists"]}
        pages = self.ec2.get_paginator("get_managed_prefix_list_entries")
        for list_id in self.list_ids:
            entries = [
                entry for page in pages.paginate(PrefixListId=list_id) for entry in page["Entries"]
            ]
            ours = frozenset(
                ip_network(entry["Cidr"])
                for entry in entries
                if entry.get("Description", "").startswith(OURS)
            )
            yield PrefixList(
                list_id,
                family=6 if described[list_id]["AddressFamily"] == "IPv6" else 4,
                max_entries=described[list_id]["MaxEntries"],
                ours=ours,
                foreign=len(entries) - len(ours),
            )

    def _authorize(self, rules: list[tuple[PortRange, Network]]) -> None:
        self.ec2.authorize_security_group_ingress(
            GroupId=self.group_id, IpPermissions=list(map(_permission, rules))
        )

    def _revoke(self, rule_ids: list[str]) -> None:
        self.ec2.revoke_security_group_ingress(GroupId=self.group_id, SecurityGroupRuleIds=rule_ids)

    def _enlarge(self, list_id: str, networks: list[Network]) -> None:
        description = f"{OURS}range of AWS"
        self.ec2.modify_managed_prefix_list(
            PrefixListId=list_id,
            CurrentVersion=self._version(list_id),
            AddEntries=[{"Cidr": str(one), "Description": description} for one in networks],
        )
        self._version(list_id)

    def _reduce(self, list_id: str, networks: list[Network]) -> None:
        self.ec2.modify_managed_prefix_list(
            PrefixListId=list_id,
            CurrentVersion=self._version(list_id),
            RemoveEntries=[{"Cidr": str(one)} for one in networks],
        )
        self._version(list_id)

    def _version(self, list_id: str) -> int:
        """The list's version, once no change of it is under way. Raises ListNotChangedError."""
        deadline = time.monotonic() + LIST_CHANGE_SECONDS
        while True:
            found = self.ec2.describe_managed_prefix_lists(PrefixListIds=[list_id])
            (described,) = found["PrefixLists"]
            state = described["State"]
            if state in ("create-complete", "modify-complete", "restore-complete"):
                return described["Version"]
            if state.endswith("-failed") or time.monotonic() > deadline:
                raise ListNotChangedError(
                    f"{list_id} is {state}: {described.get('StateMessage', 'no reason given')}"
                )
            time.sleep(LIST_POLL_SECONDS)


def _attempt(
    outcome: Outcome, what: str, changes: list[Change], request: Callable[[list[Change]], None]
) -> int:
    """Make these changes, so many in a request; how many were made. Refusals are in the outcome."""
    made = 0
    for start in range(0, len(changes), BATCH):
        batch = changes[start : start + BATCH]
        try:
            request(batch)
            made += len(batch)
        except (ClientError, BotoCoreError, ListNotChangedError) as error:
            outcome.failures.append(f"{what} ({len(batch)}): {error}")
    return made


def _rule(entry: "SecurityGroupRuleTypeDef") -> Rule | None:
    """An entry that names addresses; None if it names a group or a prefix list."""
    cidr = entry.get("CidrIpv4") or entry.get("CidrIpv6")
    if not cidr:
        return None
    return Rule(
        entry["IpProtocol"], entry.get("FromPort", -1), entry.get("ToPort", -1), ip_network(cidr)
    )


def _permission(opened: tuple[PortRange, Network]) -> "IpPermissionTypeDef":
    ports, network = opened
    permission: IpPermissionTypeDef = {
        "IpProtocol": ports.protocol,
        "FromPort": ports.first,
        "ToPort": ports.last,
    }
    description = OURS + ports.name
    if network.version == 4:
        permission["IpRanges"] = [{"CidrIp": str(network), "Description": description}]
    else:
        permission["Ipv6Ranges"] = [{"CidrIpv6": str(network), "Description": description}]
    return permission
