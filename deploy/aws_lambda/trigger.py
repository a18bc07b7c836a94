"""What started the Lambda, and what it may do because of it. Pure.

AWS announces new ranges on an SNS topic: "AWS IP address ranges notifications" in the Amazon VPC
User Guide. Lambda's event for a message of a topic is in "Using Lambda with Amazon SNS", that of
EventBridge's schedule in "Scheduled events"; both in the AWS Lambda Developer Guide.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TOPIC = "arn:aws:sns:us-east-1:806199016981:AmazonIpSpaceChanged"
HOST = "ip-ranges.amazonaws.com"
DOCUMENT_URL = f"https://{HOST}/ip-ranges.json"


class ForeignTriggerError(Exception):
    """The event is not one that we act on; the text says why."""


@dataclass(frozen=True, slots=True)
class Job:
    """The document to fetch, its hash if that was announced, and what the operator asked for."""

    url: str = DOCUMENT_URL
    md5: str = ""
    dry_run: bool = False
    accept_large_loss: bool = False


def job_of(event: Mapping[str, Any]) -> Job:
    """The job that an event asks for. Raises ForeignTriggerError.

    Messages come from AWS's topic. All else is the daily schedule, or an operator, who may say
    `{"dry_run": true}` and `{"accept_large_loss": true}`: both need the right to invoke the Lambda.
    """
    if "Records" in event:
        return _announced(event["Records"])
    if event.get("source") == "aws.events":
        return Job()
    options = {"dry_run", "accept_large_loss"}
    if event.keys() - options or not all(isinstance(value, bool) for value in event.values()):
        raise ForeignTriggerError(
            f"unknown event with {', '.join(sorted(event))}: allowed are {sorted(options)},"
            " each true or false"
        )
    return Job(**event)


def _announced(records: list[dict[str, Any]]) -> Job:
    """SNS hands over one message at a time."""
    try:
        (record,) = records
        message = record["Sns"]
        topic = message["TopicArn"]
        content = json.loads(message["Message"])
        url, md5 = str(content["url"]), str(content["md5"])
    except (ValueError, LookupError, TypeError) as error:
        raise ForeignTriggerError(f"not a message about address ranges: {error!r}") from error
    if topic != TOPIC:
        raise ForeignTriggerError(f"a message of the topic {topic}, not of {TOPIC}")
    parts = urlsplit(url)
    if (parts.scheme, parts.netloc) != ("https", HOST):
        raise ForeignTriggerError(f"the document is said to be at {url}, not at https://{HOST}/")
    if not re.fullmatch(r"[0-9a-fA-F]{32}", md5):
        raise ForeignTriggerError(f"the message's MD5 is {md5!r}, not 32 hex digits")
    return Job(url=url, md5=md5)
