"""The Lambda: from AWS's announcement, or the daily schedule, to the rules of the security group.

Each run writes one line to the log, with its metrics: what was wanted, added and removed, and
whether the change was refused (`Refused`: by us, nothing was changed) or has failed (`Failed`: by
AWS, in part). Both end in an exception, so that Lambda tries again: twice, as the invocation is
asynchronous.
"""

import os
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from deploy.aws_lambda.metrics import metrics_line
from deploy.aws_lambda.plan import Plan, RefusedError, make_plan
from deploy.aws_lambda.ranges import BrokenDocumentError, choose, read_ranges
from deploy.aws_lambda.security_group import Outcome, SecurityGroup
from deploy.aws_lambda.settings import Settings, settings_from
from deploy.aws_lambda.trigger import ForeignTriggerError, Job, job_of

if TYPE_CHECKING:  # Lambda's runtime has no stubs
    from mypy_boto3_ec2 import EC2Client

TRIES = 8
"""How often a request is made when EC2 throttles it, with growing pauses between."""

DOWNLOAD_SECONDS = 20.0
LARGEST_DOCUMENT_BYTES = 32 << 20
"""Ten times what AWS's document has."""

Download = Callable[[str], bytes]


class NotEqualError(Exception):
    """AWS refused a part of the change; the text says which. The old rules still stand."""


def handle(event: Mapping[str, Any], context: object) -> dict[str, int | bool]:
    """What Lambda calls; `event` is as in `trigger.job_of`. Raises for all that went wrong."""
    return run(event, settings_from(os.environ), download)


def run(event: Mapping[str, Any], settings: Settings, fetch: Download) -> dict[str, int | bool]:
    """Make the security group equal to the ranges; what was done. Reports it in any case."""
    report = _Report(settings.security_group_id)
    try:
        job = job_of(event)
        group = SecurityGroup(ec2_client(), settings.security_group_id, settings.prefix_list_ids)
        plan = _plan(job, settings, group, fetch, report)
        dry_run = report.dry_run = job.dry_run or settings.dry_run
        outcome = Outcome() if dry_run else group.carry_out(plan)
    except (ForeignTriggerError, BrokenDocumentError, RefusedError) as error:
        report.write(Outcome(), refused=error)
        raise
    except Exception as error:
        report.write(Outcome(failures=[f"{type(error).__name__}: {error}"]))
        raise
    report.write(outcome)
    if outcome.failures:
        raise NotEqualError("; ".join(outcome.failures))
    return {"dry_run": dry_run, "to_add": plan.additions, "to_remove": plan.removals}


def _plan(
    job: Job, settings: Settings, group: SecurityGroup, fetch: Download, report: "_Report"
) -> Plan:
    ranges = read_ranges(fetch(job.url), job.md5)
    wanted = choose(ranges, settings.services, settings.regions, settings.extra_ranges)
    report.wanted = len(wanted)
    report.plan = make_plan(
        group.read(), wanted, settings.ports, settings.rule_quota, job.accept_large_loss
    )
    return report.plan


class _Report:
    """What is known of a run, for its line in the log."""

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.wanted = 0
        self.plan = Plan()
        self.dry_run = False

    def write(self, outcome: Outcome, refused: Exception | None = None) -> None:
        """Write the line to the standard output, which Lambda takes to CloudWatch."""
        numbers = {
            "Wanted": self.wanted,
            "Added": outcome.added,
            "Removed": outcome.removed,
            "Refused": int(refused is not None),
            "Failed": len(outcome.failures),
            "Equal": int(refused is None and not outcome.failures and not self.dry_run),
        }
        facts = {
            "event": "address_ranges",
            "dry_run": self.dry_run,
            "to_add": self.plan.additions,
            "to_remove": self.plan.removals,
            "reason": str(refused or ""),
            "failures": outcome.failures,
        }
        line = metrics_line(self.group_id, time.time_ns() // 1_000_000, numbers, facts)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def ec2_client() -> "EC2Client":
    """A client that tries again, with growing pauses, when EC2 is throttling or failing."""
    retries: Any = {"mode": "standard", "total_max_attempts": TRIES}
    return boto3.client("ec2", config=Config(retries=retries))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Only the host that was checked is asked."""

    def redirect_request(self, *_: object) -> None:
        return None


def download(url: str) -> bytes:
    """The document at this address. Raises BrokenDocumentError if it can't be had."""
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(url, timeout=DOWNLOAD_SECONDS) as answer:
            document: bytes = answer.read(LARGEST_DOCUMENT_BYTES + 1)
            missing_bytes = answer.length or 0
    except (OSError, HTTPException) as error:
        raise BrokenDocumentError(f"{url} can't be read: {error}") from error
    if len(document) > LARGEST_DOCUMENT_BYTES:
        raise BrokenDocumentError(f"{url} has over {LARGEST_DOCUMENT_BYTES} bytes")
    if missing_bytes:
        raise BrokenDocumentError(f"{url} was cut off, {missing_bytes} bytes are missing")
    return document
