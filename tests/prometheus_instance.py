"""A real Prometheus for tests, with the rules of deploy/prometheus on a clock of seconds."""

import json
import re
import socket
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Final, Self

import pytest

from deploy.prometheus_package import ensure_prometheus, obstacle
from loadtest.stack import free_port
from tests.asterisk_instance import CHECKOUT, wait_until

CONFIG: Final = CHECKOUT / "deploy" / "prometheus"
START_S: Final = 30.0
WINDOW: Final = "6s"
"""In tests rates are taken over so long, with a scrape each second."""


def shortened(text: str) -> str:
    """Rules or scrape settings for a test: each second, over short windows, without patience."""
    text = re.sub(r"\[\d+[sm]\]", f"[{WINDOW}]", text)
    text = re.sub(r"(interval): 15s", r"\1: 1s", text)
    return re.sub(r"for: \d+[sm]", "for: 0s", text)


class PrometheusInstance:
    """One Prometheus that scrapes one supervisor, from `with` to its end.

    Args:
        programs: the folder of the programs.
        directory: where its settings and data go.
        target: the supervisor's host:port.
    """

    def __init__(self, programs: Path, directory: Path, target: str) -> None:
        self._programs = programs
        self._directory = directory
        self._target = target
        self._address = f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        for file in ("prometheus.yml", "recording.yml", "alerts.yml"):
            text = shortened((CONFIG / file).read_text()).replace("127.0.0.1:8080", self._target)
            (self._directory / file).write_text(text)
        log = self._directory / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    self._programs / "prometheus",
                    f"--config.file={self._directory / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._directory / 'data'}",
                    f"--web.listen-address={self._address}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            wait_until(self._is_ready, START_S, lambda: f"no Prometheus:\n{log.read_text()}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def query(self, expression: str) -> list[Any]:
        """The series that a query answers with now; `$instance` and the like are filled in."""
        for variable, value in (("$__rate_interval", WINDOW), ("$instance", ".*")):
            expression = expression.replace(variable, value)
        answer = self._ask("query", query=re.sub(r"\[\d+m\]", f"[{WINDOW}]", expression))
        result: list[Any] = answer["result"]
        return result

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        alerts = self._ask("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def broken_rules(self) -> list[str]:
        """What is wrong with rules that can't be evaluated."""
        groups = self._ask("rules")["groups"]
        return [
            rule["lastError"] for group in groups for rule in group["rules"] if "lastError" in rule
        ]

    def _ask(self, what: str, **query: str) -> dict[str, Any]:
        url = f"http://{self._address}/api/v1/{what}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
        return data

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "Prometheus has ended"
        try:
            with urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=5):
                return True
        except OSError:
            return False  # not yet


@pytest.fixture(scope="session")
def prometheus_programs() -> Path:
    """The folder with prometheus and promtool, fetched if need be; skips where it can't be had."""
    if problem := obstacle():
        pytest.skip(problem)
    return ensure_prometheus()
