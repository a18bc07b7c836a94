"""What recording costs: a whole small run, and its verdict."""

import json
import subprocess
import sys
from pathlib import Path
from shutil import which

import msgspec
import pytest

from loadtest.bench_programs import CHECKOUT
from loadtest.recording_cost import Cost, Recorded
from tests.loadtest.test_bench import measured

FIRST_PORT = 25600
"""Of this test; no other test uses it, nor the 100 that follow."""
GOOD = Cost(2, 1.0, measured(30.0), measured(33.0), Recorded(2, 2, 2.0, 0, 0, 1000))


def test_the_verdict() -> None:
    """A gap, a call that was not recorded to its end, and a late load generator count."""
    assert GOOD.ok
    assert "recording takes 10.0% more CPU of the worker" in "\n".join(GOOD.lines())
    for changes in ({"gaps": 1}, {"complete": 1}, {"recordings": 1}):
        recorded = msgspec.structs.replace(GOOD.recorded, **changes)
        worse = msgspec.structs.replace(GOOD, recorded=recorded)
        assert not worse.ok
        assert worse.lines()[-1].startswith("NOT VALID")


@pytest.mark.skipif(which("cc") is None, reason="no C compiler on this machine")
def test_a_small_run(tmp_path: Path) -> None:
    """Two calls are measured without and with recording, and recorded from start to end."""
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "loadtest.recording_cost", "--calls", "2", "--seconds", "1.5"]
    command += ["--warm-up", "0", "--port", str(FIRST_PORT), "--json", str(figures)]
    ended = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120)
    assert figures.exists(), ended.stderr
    found = json.loads(figures.read_bytes())
    assert (found["recorded"]["recordings"], found["recorded"]["complete"]) == (2, 2)
    assert found["recording"]["helpers_us_per_frame_pair"] > 0
    assert found["without"]["helpers_us_per_frame_pair"] == 0
