"""The CloudFormation template: valid, and in step with the Lambda's code."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from deploy.aws_lambda import settings, trigger
from deploy.aws_lambda.metrics import DIMENSION, NAMESPACE
from tests.deploy.aws_template import TEMPLATE, resources_of_the_template, statements


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    """The template's resources by their names."""
    return resources_of_the_template()


def test_it_is_valid() -> None:
    """AWS's own linter finds nothing, warnings included."""
    linter = Path(sys.executable).with_name("cfn-lint")
    command: list[str | Path] = [linter, "--regions", "us-east-1", "us-west-2", "--", TEMPLATE]
    linted = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")


def test_the_role_is_for_one_group_and_its_lists(resources: dict[str, Any]) -> None:
    """All that changes something names what; "*" is only for what has no resources in EC2."""
    for statement in statements(resources["LambdaRole"]):
        changes = [action for action in statement["Action"] if ":Describe" not in action]
        assert not changes or "*" not in statement["Resource"], statement["Sid"]
        assert all("*" not in action for action in statement["Action"])


def test_the_settings_are_those_that_the_code_reads(resources: dict[str, Any]) -> None:
    """Each variable is known to the code, and all that it knows are set."""
    properties = resources["Lambda"]["Properties"]
    variables = properties["Environment"]["Variables"]
    assert set(variables) == set(settings.FORMS)
    named = json.dumps(variables["PREFIX_LIST_IDS"])
    lists = {name for name in resources if resources[name]["Type"] == "AWS::EC2::PrefixList"}
    assert len(lists) == 8
    assert all(f'"{name}"' in named for name in lists)
    module, function = properties["Handler"].rsplit(".", 1)
    assert callable(getattr(import_module(module), function))


def test_each_list_opens_both_port_ranges(resources: dict[str, Any]) -> None:
    """By one rule for SIP and one for RTP, of a group that the instance has."""
    attached = json.dumps(resources["Instance"]["Properties"]["SecurityGroupIds"])
    opened = set()
    for name, group in resources.items():
        if group["Type"] == "AWS::EC2::SecurityGroup":
            assert f'"{name}"' in attached or f'"{name}.GroupId"' in attached
            assert group["Properties"]["SecurityGroupEgress"], "without, all is allowed"
            for rule in group["Properties"].get("SecurityGroupIngress", []):
                port = rule["FromPort"]["Ref"]
                opened.add((rule["SourcePrefixListId"]["Ref"], rule["IpProtocol"], port))
    lists = {f"Ipv{family}List{page}" for family in (4, 6) for page in range(1, 5)}
    ports = (("tcp", "SipPort"), ("udp", "RtpFirst"))
    assert opened == {(name, *port) for name in lists for port in ports}


def test_it_listens_to_the_topic_that_the_code_expects(resources: dict[str, Any]) -> None:
    """Subscription and permission name AWS's topic, where it is."""
    subscription = resources["Announcement"]["Properties"]
    assert subscription["TopicArn"] == trigger.TOPIC
    assert f":{subscription['Region']}:" in trigger.TOPIC
    assert resources["AnnouncementPermission"]["Properties"]["SourceArn"] == trigger.TOPIC


def test_alarms_are_about_metrics_that_there_are(resources: dict[str, Any]) -> None:
    """Name, namespace and dimension are those of the Lambda's log lines."""
    alarms = {
        alarm["Properties"]["MetricName"]: alarm["Properties"]
        for alarm in resources.values()
        if alarm["Type"] == "AWS::CloudWatch::Alarm"
    }
    assert alarms.keys() == {"Refused", "Failed", "Equal"}
    for alarm in alarms.values():
        assert alarm["Namespace"] == NAMESPACE
        assert [dimension["Name"] for dimension in alarm["Dimensions"]] == [DIMENSION]


def test_the_node_is_safe(resources: dict[str, Any]) -> None:
    """IMDSv2 only, an encrypted disk, recordings neither public nor in the clear."""
    instance = resources["Instance"]["Properties"]
    assert instance["MetadataOptions"]["HttpTokens"] == "required"
    assert all(disk["Ebs"]["Encrypted"] for disk in instance["BlockDeviceMappings"])
    bucket = resources["RecordingBucket"]["Properties"]
    assert all(bucket["PublicAccessBlockConfiguration"].values())
    policy = resources["RecordingBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert all(statement["Effect"] == "Deny" for statement in policy)
    assert resources["RecordingBucket"]["DeletionPolicy"] == "Retain"


def test_the_user_data_is_a_script(resources: dict[str, Any], tmp_path: Path) -> None:
    """Bash can read it, and CloudFormation finds only names of its own in it."""
    script = resources["Instance"]["Properties"]["UserData"]["Fn::Base64"]["Fn::Sub"]
    (tmp_path / "user-data").write_text(script.replace("${AWS::", "${AWS_"))
    subprocess.run(["bash", "-n", str(tmp_path / "user-data")], check=True)
