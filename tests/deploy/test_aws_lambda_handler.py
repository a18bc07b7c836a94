"""The whole Lambda against an EC2 of moto's: what it changes, in which order, and what not."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from deploy.aws_lambda.handler import NotEqualError, run
from deploy.aws_lambda.plan import DoesNotFitError, TooMuchRemovedError
from deploy.aws_lambda.ranges import BrokenDocumentError
from deploy.aws_lambda.settings import settings_from
from deploy.aws_lambda.trigger import DOCUMENT_URL, ForeignTriggerError
from tests.deploy.aws_account import REGION, Account, Ec2Server, announcement, document
from tests.deploy.aws_template import resources_of_the_template, statements

SCHEDULED = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}
READING = ("Describe", "Get")
CHIME = document("3.80.16.0/24", "3.80.17.0/24", "2600:f0f0:1::/48")


@pytest.fixture(scope="module")
def server() -> Iterator[Ec2Server]:
    """One EC2 for all tests here."""
    server = Ec2Server()
    with server.serving():
        yield server


@pytest.fixture
def account(server: Ec2Server, monkeypatch: pytest.MonkeyPatch) -> Account:
    """A security group of the test's own, reached as in Lambda: by what is in the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    ec2 = boto3.client("ec2")
    vpc_id = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    group = ec2.create_security_group(GroupName="media", Description="media", VpcId=vpc_id)
    server.calls.clear()
    return Account(ec2, server, group["GroupId"])


def update(account: Account, content: bytes, event: Any = None, **settings: str) -> dict[str, Any]:
    """Run the Lambda for an announcement of this document (or for another event)."""
    event = announcement(content) if event is None else event
    documents = {DOCUMENT_URL: content}
    return run(event, settings_from(account.environment(**settings)), documents.__getitem__)


def test_first_run(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    """Both port ranges are opened for the merged ranges, IPv4 and IPv6, and for no others."""
    assert update(account, CHIME) == {"dry_run": False, "to_add": 4, "to_remove": 0}
    assert account.clear_calls() == ["DescribeSecurityGroupRules", "AuthorizeSecurityGroupIngress"]
    assert account.rules() == {
        ("open-telephony-stack: sip", "tcp", 5061, 5061, "3.80.16.0/23"),
        ("open-telephony-stack: sip", "tcp", 5061, 5061, "2600:f0f0:1::/48"),
        ("open-telephony-stack: rtp", "udp", 10000, 19999, "3.80.16.0/23"),
        ("open-telephony-stack: rtp", "udp", 10000, 19999, "2600:f0f0:1::/48"),
    }
    line = json.loads(capsys.readouterr().out)
    assert (line["Wanted"], line["Added"], line["Removed"]) == (2, 4, 0)
    assert (line["Refused"], line["Failed"], line["Equal"]) == (0, 0, 1)
    (definition,) = line["_aws"]["CloudWatchMetrics"]
    assert {metric["Name"] for metric in definition["Metrics"]} <= line.keys()
    assert definition["Dimensions"] == [["SecurityGroup"]]
    assert line["SecurityGroup"] == account.group_id


def test_extra_ranges(account: Account) -> None:
    """What AWS publishes as another service's is opened if the settings name it."""
    update(account, CHIME, EXTRA_RANGES="52.94.0.128/25")
    assert account.opened() == {"3.80.16.0/23", "2600:f0f0:1::/48", "52.94.0.128/25"}


def test_nothing_changed(account: Account) -> None:
    """The daily run of a group that is right only reads."""
    update(account, CHIME)
    account.clear_calls()
    assert update(account, CHIME, event=SCHEDULED)["to_add"] == 0
    assert account.clear_calls() == ["DescribeSecurityGroupRules"]


def test_ranges_added_and_removed(account: Account) -> None:
    """What is new is added before what is gone is removed; what stays is not touched."""
    update(account, document("3.80.16.0/23", "52.55.62.0/24"))
    account.clear_calls()
    update(account, document("3.80.16.0/23", "52.55.64.0/24"))
    assert account.clear_calls() == [
        "DescribeSecurityGroupRules",
        "AuthorizeSecurityGroupIngress",
        "RevokeSecurityGroupIngress",
    ]
    assert account.opened(5061) == account.opened(10000) == {"3.80.16.0/23", "52.55.64.0/24"}


def test_foreign_rules_are_not_touched(account: Account) -> None:
    """Neither other ports nor a rule that says just what ours would: it isn't made twice."""
    account.add_foreign_rule("198.51.100.7/32")
    account.add_foreign_rule("3.80.16.0/23", port=5061)
    foreign = account.rules()
    update(account, CHIME)
    assert foreign < account.rules()
    update(account, document("52.55.62.0/24"), event={"accept_large_loss": True})
    assert foreign < account.rules()
    assert account.opened(10000) == {"52.55.62.0/24"}


def test_prefix_lists_when_the_quota_is_reached(account: Account) -> None:
    """Over the quota ranges go into the lists, and only then leave the rules; and back again."""
    lists = [account.add_list(4, max_entries=3), account.add_list(4, max_entries=3)]
    ipv6_list = account.add_list(6, max_entries=3)
    update(account, document("3.80.16.0/24", "3.80.18.0/24", "2600:f0f0:1::/48"), RULE_QUOTA="5")
    ipv6_rules = {rule for rule in account.rules() if ":" in rule[-1]}
    account.clear_calls()

    three = ("3.80.16.0/24", "3.80.18.0/24", "3.80.20.0/24")
    update(account, document(*three, "2600:f0f0:1::/48"), RULE_QUOTA="5")
    assert [call for call in account.clear_calls() if not call.startswith(READING)] == [
        "ModifyManagedPrefixList",
        "ModifyManagedPrefixList",
        "RevokeSecurityGroupIngress",
    ]
    office = "203.0.113.0/24"
    assert account.entries(lists[0]) == {office, "3.80.16.0/24", "3.80.18.0/24"}
    assert account.entries(lists[1]) == {office, "3.80.20.0/24"}
    assert account.entries(ipv6_list) == set(), "IPv6 has a quota of its own"
    assert account.rules() == ipv6_rules

    update(account, document(*three[:2], "2600:f0f0:1::/48"), RULE_QUOTA="5")
    changes = [call for call in account.clear_calls() if not call.startswith(READING)]
    assert changes[0] == "AuthorizeSecurityGroupIngress"
    assert set(changes[1:]) == {"ModifyManagedPrefixList"}
    assert account.opened() == {*three[:2], "2600:f0f0:1::/48"}
    assert account.entries(lists[0]) == account.entries(lists[1]) == {office}


def test_a_list_is_changed_again_only_when_it_is_ready(account: Account) -> None:
    """Rules are removed after the list's new version is there, which takes EC2 a moment."""
    account.add_list(4, max_entries=9)
    update(account, document("3.80.16.0/24"), RULE_QUOTA="2")
    account.clear_calls()
    account.server.changing = 2  # the answers to the first look, and to that before the change
    update(account, document("3.80.16.0/24", "3.80.18.0/24"), RULE_QUOTA="2")
    assert account.server.changing == 0
    assert account.clear_calls()[3:] == [
        "DescribeManagedPrefixLists",
        "DescribeManagedPrefixLists",
        "ModifyManagedPrefixList",
        "DescribeManagedPrefixLists",
        "RevokeSecurityGroupIngress",
    ]


def test_no_room_anywhere(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is changed, and the text says how much room there is and how to get more."""
    account.add_list(4, max_entries=2)
    update(account, document("3.80.16.0/24"), RULE_QUOTA="2")
    before = account.rules()
    many = document("3.80.16.0/24", "3.80.18.0/24", "3.80.20.0/24")
    with pytest.raises(DoesNotFitError, match=r"IPv4: 6 rules, the quota is 2.*room for 1 more"):
        update(account, many, RULE_QUOTA="2")
    assert account.rules() == before
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["Refused"] == 1


@pytest.mark.parametrize(
    ("content", "message", "reason"),
    [
        (CHIME, {"md5": "0" * 32}, "MD5 is"),
        (b'{"prefixes": [', {}, "not a document"),
        (b"[]", {}, "not a document"),
        (CHIME.replace(b"3.80.16.0/24", b"3.80.16.1/24"), {}, "host bits set"),
        (CHIME.replace(b"3.80.16.0/24", b"0.0.0.0/0"), {}, "0.0.0.0/0"),
        (document(), {}, "no address ranges for CHIME_VOICECONNECTOR"),
    ],
)
def test_a_broken_document(
    account: Account,
    content: bytes,
    message: dict[str, str],
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is refused before EC2 is asked anything, and counted."""
    with pytest.raises(BrokenDocumentError, match=reason):
        update(account, content, event=announcement(content, **message))
    assert account.clear_calls() == []
    line = json.loads(capsys.readouterr().out)
    assert (line["Refused"], line["Equal"]) == (1, 0)
    assert reason in line["reason"]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("AmazonIpSpaceChanged", "SomebodyElse", "a message of the topic"),
        ("https://ip-ranges.amazonaws.com/", "https://example.com/", "not at https://ip-ranges"),
        ("https://ip-ranges.amazonaws.com/", "https://ip-ranges.amazonaws.com@example.com/", "at"),
        ("https://ip-ranges.amazonaws.com/", "http://ip-ranges.amazonaws.com/", "is said to be at"),
        ("md5", "sha", "KeyError"),
    ],
)
def test_a_foreign_message(account: Account, old: str, new: str, reason: str) -> None:
    """Of another topic, for another host, without encryption or without a hash: refused."""
    event = json.loads(json.dumps(announcement(CHIME)).replace(old, new))
    with pytest.raises(ForeignTriggerError, match=reason):
        update(account, CHIME, event=event)
    assert account.clear_calls() == []


def test_more_than_half_gone(account: Account) -> None:
    """An update that takes most of it away is refused, unless an operator says that it's right."""
    update(account, document("3.80.16.0/24", "3.80.18.0/24", "3.80.20.0/24"))
    before = account.rules()
    with pytest.raises(TooMuchRemovedError, match="2 of 3 ranges would be removed"):
        update(account, document("3.80.16.0/24"))
    assert account.rules() == before
    update(account, document("3.80.16.0/24"), event={"accept_large_loss": True})
    assert account.opened() == {"3.80.16.0/24"}


@pytest.mark.parametrize("how", ["event", "setting"])
def test_dry_run(account: Account, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what it would do, and only reads."""
    event = {"dry_run": True} if how == "event" else SCHEDULED
    setting = "true" if how == "setting" else "false"
    told = update(account, CHIME, event=event, DRY_RUN=setting)
    assert told == {"dry_run": True, "to_add": 4, "to_remove": 0}
    assert account.clear_calls() == ["DescribeSecurityGroupRules"]
    line = json.loads(capsys.readouterr().out)
    assert (line["to_add"], line["Added"], line["Equal"]) == (4, 0, 0)


def test_throttling(account: Account) -> None:
    """Requests that EC2 had no time for are made again."""
    account.server.refusals["DescribeSecurityGroupRules"] = ["RequestLimitExceeded"]
    account.server.refusals["AuthorizeSecurityGroupIngress"] = ["RequestLimitExceeded"]
    update(account, CHIME)
    assert account.clear_calls() == [
        "DescribeSecurityGroupRules",
        "DescribeSecurityGroupRules",
        "AuthorizeSecurityGroupIngress",
        "AuthorizeSecurityGroupIngress",
    ]
    assert len(account.rules()) == 4


def test_a_part_fails(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    """Without all additions nothing is removed; the failure is reported, the next run mends it."""
    lists = [account.add_list(4, max_entries=3), account.add_list(4, max_entries=3)]
    update(account, document("3.80.16.0/24"), RULE_QUOTA="2")
    old = account.rules()
    three = ("3.80.16.0/24", "3.80.18.0/24", "3.80.20.0/24")
    account.server.refusals["ModifyManagedPrefixList"] = ["UnauthorizedOperation"]
    with pytest.raises(NotEqualError, match=rf"add to {lists[0]} \(2\).*UnauthorizedOperation"):
        update(account, document(*three), RULE_QUOTA="2")
    assert account.rules() == old
    assert "3.80.20.0/24" in account.entries(lists[1])
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (line["Added"], line["Removed"], line["Failed"], line["Equal"]) == (1, 0, 1, 0)

    update(account, document(*three), RULE_QUOTA="2")
    assert account.rules() == set()
    assert set(three) <= account.entries(lists[0]) | account.entries(lists[1])


def test_a_quota_that_is_not_so_large(account: Account) -> None:
    """AWS's own check stands behind ours: it refuses, and the old rules stay."""
    update(account, document("3.80.16.0/24"))
    old = account.rules()
    many = document("3.80.16.0/24", *(f"52.{number}.0.0/24" for number in range(60)))
    with pytest.raises(NotEqualError, match="RulesPerSecurityGroupLimitExceeded"):
        update(account, many, RULE_QUOTA="200")
    assert old <= account.rules()  # moto keeps as many of the new ones as fit


def test_reading_fails(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    """When EC2 doesn't even say what there is, the run counts as failed."""
    account.server.refusals["DescribeSecurityGroupRules"] = ["UnauthorizedOperation"]
    with pytest.raises(Exception, match="UnauthorizedOperation"):
        update(account, CHIME)
    assert json.loads(capsys.readouterr().out)["Failed"] == 1


def test_the_role_allows_what_is_called_and_no_more(account: Account) -> None:
    """The template's role has the rights for exactly the requests that a way through all makes."""
    account.add_list(4, max_entries=3)
    account.clear_calls()
    update(account, document("3.80.16.0/24"), RULE_QUOTA="2")
    update(account, document("3.80.16.0/24", "3.80.18.0/24"), RULE_QUOTA="2")
    allowed = {
        action
        for statement in statements(resources_of_the_template()["LambdaRole"])
        for action in statement["Action"]
        if not action.startswith("logs:")
    }
    assert allowed == {f"ec2:{call}" for call in account.clear_calls()}
