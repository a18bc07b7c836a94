"""What all tests share: the real Asterisk and Prometheus, the count of tests that used those and
Chromium, and the search for callers' data in all that they made the system write.
"""

import os
from collections import Counter, defaultdict
from contextlib import suppress

import pytest

from deploy.asterisk_rootfs import RootfsError, ensure_rootfs, obstacle
from tests.asterisk_instance import asterisk, asterisk_rootfs
from tests.chromium_instance import chromium_program, running
from tests.phi_watch import PhiPlugin
from tests.prometheus_instance import prometheus_programs

__all__ = ["asterisk", "asterisk_rootfs", "chromium_program", "prometheus_programs", "running"]

REAL = {
    "asterisk": "REQUIRE_ASTERISK",
    "chromium": "REQUIRE_CHROMIUM",
    "prometheus": "REQUIRE_PROMETHEUS",
}
"""Markers, and what is set in CI: a run in which such a test was skipped has failed."""

_marked: defaultdict[str, set[str]] = defaultdict(set)
_outcomes: Counter[tuple[str, str]] = Counter()


def pytest_configure(config: pytest.Config) -> None:
    """Have everything that the system writes searched for callers' data."""
    config.pluginmanager.register(PhiPlugin())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Note which tests need which program."""
    for item in items:
        for marker in REAL:
            if item.get_closest_marker(marker):
                _marked[marker].add(item.nodeid)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the real Asterisk's root file system before any test: its minutes are no test's."""
    needed = any(item.get_closest_marker("asterisk") for item in session.items)
    if needed and not session.config.option.collectonly and obstacle() is None:
        with suppress(RootfsError):  # the fixture tries again, and fails with it
            ensure_rootfs()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count what became of them: a skip shows in the set-up or in the call."""
    for marker, names in _marked.items():
        if report.nodeid in names and (report.when == "call" or report.skipped):
            _outcomes[marker, report.outcome] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests used the real programs."""
    for marker in REAL:
        ran, skipped = _counts(marker)
        name = marker.capitalize()
        terminalreporter.write_line(f"real {name}: {ran} tests ran, {skipped} were skipped")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that should have used the real programs and didn't."""
    for marker, variable in REAL.items():
        ran, skipped = _counts(marker)
        if os.environ.get(variable) and session.exitstatus == 0 and (skipped or not ran):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _counts(marker: str) -> tuple[int, int]:
    """How many tests of a marker ran, and how many were skipped."""
    ran = _outcomes[marker, "passed"] + _outcomes[marker, "failed"]
    return ran, _outcomes[marker, "skipped"]
