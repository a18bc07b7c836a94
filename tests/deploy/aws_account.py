"""An AWS account for tests: moto's EC2 behind a real HTTP server, which writes down each request.

It can also refuse requests, as EC2 does when it throttles or when a right is missing.
"""

import io
import json
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import md5
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from deploy.aws_lambda.trigger import DOCUMENT_URL, TOPIC

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

REGION = "us-east-1"

REFUSAL = (
    "<Response><Errors><Error><Code>{code}</Code><Message>refused by the test</Message></Error>"
    "</Errors><RequestID>00000000-0000-0000-0000-000000000000</RequestID></Response>"
)

Opened = tuple[str, str, int, int, str]
"""A rule: its description, protocol, first and last port, and the addresses."""


@dataclass
class Ec2Server:
    """A WSGI application before moto's: `calls` are the actions asked for, in their order.

    The next requests for an action are refused with the codes in `refusals`, one after the other;
    `changing` answers about prefix lists say that the last change isn't through yet.
    """

    calls: list[str] = field(default_factory=list)
    refusals: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    changing: int = 0
    url: str = ""
    _moto: Any = field(default_factory=lambda: DomainDispatcherApplication(create_backend_app))

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request."""
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        (action,) = parse_qs(body.decode())["Action"]
        self.calls.append(action)
        if self.refusals[action]:
            code = self.refusals[action].pop(0)
            throttled = code == "RequestLimitExceeded"
            status = "503 Service Unavailable" if throttled else "403 Forbidden"
            start_response(status, [("Content-Type", "text/xml")])
            return [REFUSAL.format(code=code).encode()]
        answer: Iterable[bytes] = self._moto(environ, start_response)
        if action == "DescribeManagedPrefixLists" and self.changing:
            self.changing -= 1
            # As long as what stands there, so that the answer's length stays true
            return [part.replace(b"-complete<", b"-ongoing_<") for part in answer]
        return answer

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Listens on a port of its own meanwhile."""
        server = make_server("127.0.0.1", 0, self, threaded=True)
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@dataclass
class Account:
    """One security group and some prefix lists in that account, and what is asked for them."""

    ec2: "EC2Client"
    server: Ec2Server
    group_id: str
    list_ids: list[str] = field(default_factory=list)

    def environment(self, **settings: str) -> dict[str, str]:
        """The Lambda's settings for this group."""
        lists = ",".join(self.list_ids)
        own = {"SECURITY_GROUP_ID": self.group_id, "PREFIX_LIST_IDS": lists, "REGIONS": REGION}
        return own | settings

    def rules(self) -> set[Opened]:
        """All rules of the group that let something in."""
        found = self.ec2.describe_security_group_rules(
            Filters=[{"Name": "group-id", "Values": [self.group_id]}]
        )
        return {
            (
                rule.get("Description", ""),
                rule["IpProtocol"],
                rule["FromPort"],
                rule["ToPort"],
                rule.get("CidrIpv4") or rule["CidrIpv6"],
            )
            for rule in found["SecurityGroupRules"]
            if not rule["IsEgress"]
        }

    def opened(self, ports: int = 5061) -> set[str]:
        """The addresses that rules open for this (first) port, whoever made them."""
        return {cidr for _, _, first, _, cidr in self.rules() if first == ports}

    def add_foreign_rule(self, cidr: str, port: int = 22) -> None:
        """A rule that somebody else made."""
        self.ec2.authorize_security_group_ingress(
            GroupId=self.group_id,
            IpPermissions=[
                {
                    "IpProtocol": "tcp",
                    "FromPort": port,
                    "ToPort": port,
                    "IpRanges": [{"CidrIp": cidr, "Description": "the office"}],
                }
            ],
        )

    def add_list(self, family: int, max_entries: int) -> str:
        """A prefix list, with an entry that somebody else made in those for IPv4."""
        made = self.ec2.create_managed_prefix_list(
            PrefixListName=f"overflow-{len(self.list_ids)}",
            AddressFamily=f"IPv{family}",
            MaxEntries=max_entries,
            Entries=[{"Cidr": "203.0.113.0/24", "Description": "the office"}] * (family == 4),
        )
        self.list_ids.append(made["PrefixList"]["PrefixListId"])
        return self.list_ids[-1]

    def entries(self, list_id: str) -> set[str]:
        """What is in a prefix list."""
        found = self.ec2.get_managed_prefix_list_entries(PrefixListId=list_id)
        return {entry["Cidr"] for entry in found["Entries"]}

    def clear_calls(self) -> list[str]:
        """What was asked for so far, which is forgotten."""
        calls = list(self.server.calls)
        self.server.calls.clear()
        return calls


def document(*cidrs: str, service: str = "CHIME_VOICECONNECTOR", region: str = REGION) -> bytes:
    """A document of AWS's form: these ranges, and one each of other services and regions."""
    own = [(cidr, service, region) for cidr in cidrs]
    others = [("52.94.0.0/22", "AMAZON", region), ("99.77.253.0/24", service, "us-west-2")]
    ranges: dict[str, list[dict[str, str]]] = {"ip_prefix": [], "ipv6_prefix": []}
    for cidr, its_service, its_region in [*own, *others]:
        key = "ipv6_prefix" if ":" in cidr else "ip_prefix"
        ranges[key].append({key: cidr, "region": its_region, "service": its_service})
    return json.dumps(
        {
            "syncToken": "1758000000",
            "createDate": "2025-09-16-05-20-00",
            "prefixes": ranges["ip_prefix"],
            "ipv6_prefixes": ranges["ipv6_prefix"],
        }
    ).encode()


def announcement(content: bytes, **changes: str) -> dict[str, Any]:
    """The event of AWS's message about this document; `changes` are to the message."""
    message = {
        "create-time": "2025-09-16T05:20:00+00:00",
        "synctoken": "1758000000",
        "md5": md5(content, usedforsecurity=False).hexdigest(),
        "url": DOCUMENT_URL,
    }
    sns = {"Type": "Notification", "TopicArn": TOPIC, "Message": json.dumps(message | changes)}
    return {"Records": [{"EventSource": "aws:sns", "EventVersion": "1.0", "Sns": sns}]}
