"""Property tests: each target of `foreign_bytes` with some hundred inputs.

`python -m tests.fuzz --seconds 60` runs the same for longer.
"""

import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings

from tests.shim.foreign_bytes import TARGETS, Target
from tests.shim.harness import REPOSITORY


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_target(target: Target) -> None:
    """Row 25: whatever arrives, the code does what it promises and nothing else."""

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(target.inputs)
    def check(value: object) -> None:
        target.check(value)

    check()


def test_fuzz_command() -> None:
    """It counts its inputs, and ends with a line of how many targets passed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--seconds", "1"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(TARGETS) + 1
    assert lines[-1] == f"{len(TARGETS)} passed, 0 failed"
