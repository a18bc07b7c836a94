"""Prometheus's settings, rules and the dashboard: true to each other and to the docs."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.asterisk_instance import CHECKOUT
from tests.prometheus_instance import CONFIG
from tests.supervisor.test_metrics import exposed, figures, worker

DASHBOARD = CHECKOUT / "deploy" / "grafana" / "dashboard.json"
METRIC = re.compile(r"\bots_[a-z0-9_]+|\bprocess_[a-z_]+")
RECORD = re.compile(r"record: (\S+)")
ALERT = re.compile(r"alert: (\S+)")
SUFFIX = re.compile(r"_(bucket|count|sum|total)$")


def metrics() -> str:
    """What /metrics says when one request to Asterisk was made."""
    found = figures(worker())
    with found.ari.measure("info"):
        pass
    return "\n".join(exposed(found)) + "\n"


def families() -> set[str]:
    """The names of all our metrics, without the suffixes of counters and histograms."""
    names = re.findall(r"^# TYPE (\S+)", metrics(), re.MULTILINE)
    return {name.removesuffix("_total") for name in names}


def queries(node: Any) -> Iterator[str]:
    """All queries in a dashboard."""
    if isinstance(node, dict):
        if isinstance(node.get("expr"), str):
            yield node["expr"]
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from queries(part)


def promtool(programs: Path, *arguments: str, given: str = "") -> str:
    """Run it; what it prints. It must succeed."""
    ended = subprocess.run(
        [programs / "promtool", *arguments], cwd=CONFIG, input=given, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@pytest.mark.prometheus
def test_promtool_takes_the_settings(prometheus_programs: Path) -> None:
    """Scrape settings and both files of rules."""
    assert "FAILED" not in promtool(prometheus_programs, "check", "config", "prometheus.yml")


@pytest.mark.prometheus
def test_rules_on_made_up_series(prometheus_programs: Path) -> None:
    """Each alert is silent where it should be and fires where it should."""
    assert "SUCCESS" in promtool(prometheus_programs, "test", "rules", "rules_test.yml")


@pytest.mark.prometheus
def test_promtool_likes_our_metrics(prometheus_programs: Path) -> None:
    """Names, units, types and help texts follow Prometheus's conventions: no complaint."""
    assert promtool(prometheus_programs, "check", "metrics", given=metrics()) == ""


def test_every_alert_is_tested() -> None:
    """rules_test.yml has each alert, firing."""
    tests = (CONFIG / "rules_test.yml").read_text()
    for alert in ALERT.findall((CONFIG / "alerts.yml").read_text()):
        fires = re.compile(rf"alertname: {alert}\n +exp_alerts:\n")
        assert fires.search(tests), alert


def test_every_alert_has_a_runbook() -> None:
    """docs/operations.md has a heading for each alert, and for no other."""
    alerts = ALERT.findall((CONFIG / "alerts.yml").read_text())
    headings = re.findall(r"^#### (Ots\w+)$", (CHECKOUT / "docs/operations.md").read_text(), re.M)
    assert sorted(headings) == sorted(alerts)


def test_the_docs_list_what_there_is() -> None:
    """docs/metrics.md has a line for each metric of ours, and for no other."""
    listed = re.findall(r"^\| `(ots_\w+)`", (CHECKOUT / "docs/metrics.md").read_text(), re.M)
    ours = {name for name in families() if name.startswith("ots_")}
    assert sorted(name.removesuffix("_total") for name in listed) == sorted(ours)


@pytest.mark.parametrize("source", ["recording.yml", "alerts.yml", "dashboard.json"])
def test_only_metrics_that_there_are(source: str) -> None:
    """Rules and dashboard ask for nothing that isn't measured or recorded."""
    recorded = set(RECORD.findall((CONFIG / "recording.yml").read_text()))
    if source == "dashboard.json":
        asked = list(queries(json.loads(DASHBOARD.read_text())))
    else:
        text = re.sub(r"#.*", "", (CONFIG / source).read_text())
        asked = [re.sub(r"name: \S+", "", text)]
    known = families()
    for expression in asked:
        for record in set(re.findall(r"[a-z]+:ots_\w+:\w+", expression)):
            assert record in recorded
            expression = expression.replace(record, "")
        for name in METRIC.findall(expression):
            assert name in known or SUFFIX.sub("", name) in known, name


def test_labels_are_few() -> None:
    """No label but those that have few values, which are known beforehand."""
    labels = set(re.findall(r'[{,](\w+)="', metrics()))
    allowed = {"worker", "cpu", "state", "outcome", "reason", "limit", "step", "kind", "le"}
    assert labels <= allowed | {"version", "python"}
