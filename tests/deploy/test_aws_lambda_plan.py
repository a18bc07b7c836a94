"""From what there is to what is wanted: the pure plan, the reading of ranges and of settings."""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.aws_lambda.plan import (
    DoesNotFitError,
    Plan,
    PortRange,
    PrefixList,
    Rule,
    State,
    TooMuchRemovedError,
    make_plan,
)
from deploy.aws_lambda.ranges import Network, PublishedRange, choose, collapse, covered
from deploy.aws_lambda.settings import SettingError, settings_from
from deploy.aws_lambda.trigger import ForeignTriggerError, Job, job_of

SIP = PortRange("sip", "tcp", 5061, 5061)
RTP = PortRange("rtp", "udp", 10000, 19999)
PORTS = (SIP, RTP)
OFFICE = Rule("tcp", 22, 22, ip_network("198.51.100.0/24"))


def networks(*texts: str) -> set[Network]:
    """These, as networks."""
    return {ip_network(text) for text in texts}


def rules(ports: Iterable[PortRange], wanted: Iterable[Network]) -> dict[str, Rule]:
    """Rules of ours by made-up ids."""
    return {
        f"sgr-{port.name}-{network}": Rule(port.protocol, port.first, port.last, network)
        for port in ports
        for network in wanted
    }


def carried_out(state: State, plan: Plan, removals: bool = True) -> State:
    """What there is after a plan, or after its additions alone."""
    added = {
        f"sgr-{ports.name}-{network}": Rule(ports.protocol, ports.first, ports.last, network)
        for ports, network in plan.add_rules
    }
    gone = set(plan.remove_rules) if removals else set()
    lists = []
    for one in state.lists:
        entries = one.ours | set(plan.add_entries.get(one.list_id, ()))
        entries -= set(plan.remove_entries.get(one.list_id, ())) if removals else set()
        lists.append(replace(one, ours=entries))
    ours = {id_: rule for id_, rule in state.ours.items() if id_ not in gone} | added
    return replace(state, ours=ours, lists=tuple(lists))


def let_in(state: State, port: PortRange) -> set[Network]:
    """The networks for which a port range is open: by rules, or because a list names them."""
    opened = {
        rule.network
        for rule in (*state.ours.values(), *state.foreign)
        if (rule.protocol, rule.first, rule.last) == (port.protocol, port.first, port.last)
    }
    return opened.union(*(one.ours for one in state.lists))


SUBNETS = [*ip_network("10.0.0.0/25").subnets(new_prefix=29), *ip_network("fd00::/61").subnets(3)]
SOME = st.sets(st.sampled_from(SUBNETS), min_size=1)


@given(before=SOME, after=SOME, quota=st.integers(2, 40), room=st.integers(0, 20))
def test_any_change(before: set[Network], after: set[Network], quota: int, room: int) -> None:
    """No moment without what was and is wanted; at the end exactly that; and then nothing to do."""
    lists = (PrefixList("pl-1", 4, room), PrefixList("pl-2", 4, room), PrefixList("pl-3", 6, room))
    state = State(foreign=frozenset([OFFICE]), references=1, lists=lists)
    try:
        start = make_plan(state, before, PORTS, quota)
        state = carried_out(state, start)
        plan = make_plan(state, after, PORTS, quota, large_loss_accepted=True)
    except DoesNotFitError:
        return
    between, end = carried_out(state, plan, removals=False), carried_out(state, plan)
    for port in PORTS:
        assert let_in(state, port) <= let_in(between, port)
        assert all(covered(one, let_in(between, port)) for one in collapse(after))
        assert let_in(end, port) == collapse(after)
    for family in (4, 6):
        held = [rule for rule in between.ours.values() if rule.network.version == family]
        assert len(held) + (family == 4) + 1 <= max(quota, len(state.ours) + 2)
    assert all(one.room >= 0 for one in between.lists)
    # The next run may find that all fits into the rules again; then there is nothing left to do
    settled = carried_out(end, make_plan(end, after, PORTS, quota))
    assert all(let_in(settled, port) == collapse(after) for port in PORTS)
    last = make_plan(settled, after, PORTS, quota)
    assert (last.additions, last.removals) == (0, 0)


def test_what_has_become_part_of_a_larger_range_is_not_lost() -> None:
    """Two halves become one range: nothing is refused, and the whole comes before they go."""
    halves = networks("10.0.0.0/25", "10.0.0.128/25")
    plan = make_plan(State(rules([SIP], halves)), halves, [SIP], quota=3)
    assert plan.add_rules == [(SIP, ip_network("10.0.0.0/24"))]
    assert len(plan.remove_rules) == 2


def test_half_may_go_but_no_more() -> None:
    """Counted for each family: that all of IPv6 goes is noticed beside much IPv4."""
    four = networks("10.0.0.0/24", "10.0.2.0/24", "10.0.4.0/24", "10.0.6.0/24")
    state = State(rules([SIP], four | networks("fd00::/64")))
    half = networks("10.0.0.0/24", "10.0.2.0/24", "fd00::/64")
    assert len(make_plan(state, half, [SIP], 60).remove_rules) == 2
    with pytest.raises(TooMuchRemovedError, match=r"1 of 1 ranges .*50%.*accept_large_loss"):
        make_plan(state, four, [SIP], 60)
    with pytest.raises(TooMuchRemovedError, match="4 of 4"):
        make_plan(state, networks("fd00::/64"), [SIP], 60)
    assert len(make_plan(state, four, [SIP], 60, large_loss_accepted=True).remove_rules) == 1


def test_other_ports() -> None:
    """When the configured ports change, each range gets new rules and loses its old ones."""
    wanted = networks("10.0.0.0/24")
    moved = PortRange("sip", "tcp", 5071, 5071)
    plan = make_plan(State(rules([SIP], wanted)), wanted, [moved], quota=60)
    assert plan.add_rules == [(moved, ip_network("10.0.0.0/24"))]
    assert plan.remove_rules == ["sgr-sip-10.0.0.0/24"]


def test_foreign_rules_take_room() -> None:
    """Rules of others count against the quota; those that name a group do for both families."""
    wanted = networks("10.0.0.0/24")
    state = State(foreign=frozenset([OFFICE]), references=1)
    assert len(make_plan(state, wanted, PORTS, quota=4).add_rules) == 2
    with pytest.raises(DoesNotFitError, match="IPv4: 4 rules, the quota is 3"):
        make_plan(state, wanted, PORTS, quota=3)


def test_services_and_regions() -> None:
    """Only the chosen ones count, merged; one that has no range at all is named."""
    published = [
        PublishedRange(ip_network("10.0.0.0/25"), "EC2", "us-east-1"),
        PublishedRange(ip_network("10.0.0.128/25"), "AMAZON", "us-east-1"),
        PublishedRange(ip_network("10.9.0.0/24"), "EC2", "us-west-2"),
        PublishedRange(ip_network("10.8.0.0/24"), "S3", "us-east-1"),
    ]
    assert choose(published, ["EC2"], ["us-east-1"]) == networks("10.0.0.0/25")
    assert choose(published, ["EC2", "AMAZON"], ["us-east-1"]) == networks("10.0.0.0/24")
    assert choose(published, ["EC2"], ["*"]) == networks("10.0.0.0/25", "10.9.0.0/24")
    with pytest.raises(Exception, match="no address ranges for eu-west-9"):
        choose(published, ["EC2"], ["us-east-1", "eu-west-9"])
    with pytest.raises(Exception, match="no address ranges for CHIME_VOICECONNECTOR"):
        choose(published, ["EC2", "CHIME_VOICECONNECTOR"], ["us-east-1"])


def test_extra_ranges() -> None:
    """Ranges that AWS names elsewhere are let in as long as AWS publishes them at all."""
    published = [
        PublishedRange(ip_network("99.77.254.0/24"), "CHIME_VOICECONNECTOR", "us-east-1"),
        PublishedRange(ip_network("3.80.0.0/12"), "EC2", "us-east-1"),
    ]
    chosen = ["CHIME_VOICECONNECTOR"], ["us-east-1"]
    extra = [ip_network("3.80.16.0/23")]
    assert choose(published, *chosen, extra) == networks("99.77.254.0/24", "3.80.16.0/23")
    with pytest.raises(Exception, match=r"not among AWS's published ranges: 3\.80\.16\.0/23"):
        choose(published[:1], *chosen, extra)


GOOD = {"SECURITY_GROUP_ID": "sg-0abc", "REGIONS": "us-east-1,us-west-2"}


def test_settings() -> None:
    """What isn't set is a voice connector's: its service, its ports, AWS's own quota."""
    settings = settings_from(GOOD)
    assert settings.services == ("CHIME_VOICECONNECTOR",)
    assert settings.regions == ("us-east-1", "us-west-2")
    assert settings.ports == PORTS
    assert (settings.rule_quota, settings.prefix_list_ids, settings.dry_run) == (60, (), False)
    assert settings_from({**GOOD, "PREFIX_LIST_IDS": "pl-1,pl-2"}).prefix_list_ids == (
        "pl-1",
        "pl-2",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECURITY_GROUP_ID", ""),
        ("REGIONS", ""),
        ("REGIONS", "us-east-1;us-west-2"),
        ("SERVICES", "amazon"),
        ("EXTRA_RANGES", "3.80.16.1/23"),
        ("EXTRA_RANGES", "here"),
        ("PORTS", "sip:sctp:5061-5061"),
        ("PORTS", "rtp:udp:19999-10000"),
        ("PORTS", "rtp:udp:10000-99999"),
        ("RULE_QUOTA", "0"),
        ("PREFIX_LIST_IDS", "sg-1"),
        ("DRY_RUN", "yes"),
    ],
)
def test_bad_settings(name: str, value: str) -> None:
    """One error that names the setting, its value and what is allowed."""
    with pytest.raises(SettingError, match=rf"{name} .*{value!r}, allowed"):
        settings_from({**GOOD, name: value})


def test_what_an_operator_may_ask_for() -> None:
    """Options are true or false; an event that we don't know does nothing."""
    assert job_of({}) == Job()
    assert job_of({"dry_run": True}).dry_run
    assert job_of({"accept_large_loss": True}).accept_large_loss
    bad: list[dict[str, object]] = [{"dry_run": "yes"}, {"url": "https://x/"}, {"Records": []}]
    for event in bad:
        with pytest.raises(ForeignTriggerError):
            job_of(event)
