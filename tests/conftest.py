"""What all tests share: the real Asterisk, and the count of tests that used it."""

import os
from collections import Counter

import pytest

from tests.asterisk_instance import asterisk, asterisk_rootfs

__all__ = ["asterisk", "asterisk_rootfs"]

REQUIRED = "REQUIRE_ASTERISK"
"""Set in CI: a run in which a test of the real Asterisk was skipped has failed."""

_marked: set[str] = set()
_outcomes: Counter[str] = Counter()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Note which tests need the real Asterisk."""
    _marked.update(item.nodeid for item in items if item.get_closest_marker("asterisk"))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count what became of them: a skip shows in the set-up or in the call."""
    if report.nodeid in _marked and (report.when == "call" or report.skipped):
        _outcomes[report.outcome] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests used the real Asterisk."""
    ran, skipped = _outcomes["passed"] + _outcomes["failed"], _outcomes["skipped"]
    terminalreporter.write_line(f"real Asterisk: {ran} tests ran, {skipped} were skipped")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that should have used the real Asterisk and didn't."""
    ran = _outcomes["passed"] + _outcomes["failed"]
    if os.environ.get(REQUIRED) and session.exitstatus == 0 and (_outcomes["skipped"] or not ran):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
