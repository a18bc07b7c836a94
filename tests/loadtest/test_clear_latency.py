"""`python -m loadtest.clear_latency`: its arithmetic, and a short run on a real worker."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest

from loadtest.clear_latency import Figures, figures

CHECKOUT = Path(__file__).parents[2]
LIMIT_S = 60.0
TICK_MS = 20.0
BUSY_MS = 100.0
"""What a busy machine may add to a single trial."""


async def run(*arguments: str) -> tuple[int | None, str]:
    """Run it; returns the exit code and what it has printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtest.clear_latency", *arguments),
        cwd=CHECKOUT,
        stdout=PIPE,
        stderr=STDOUT,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode()


async def test_a_short_run(tmp_path: Path) -> None:
    """The figures are in order, the typical one is far from a second; file and lines agree."""
    file = tmp_path / "figures.json"
    code, output = await run("--trials", "60", "--calls", "10", "--json", str(file))
    written = json.loads(file.read_text())
    assert (written["trials"], written["calls"]) == (60, 10)
    assert 0 < written["p50_ms"] < TICK_MS + BUSY_MS
    assert written["p50_ms"] <= written["p99_ms"] <= written["max_ms"]
    assert code == (0 if written["p99_ms"] <= 21.0 else 1)
    assert output.startswith("60 trials under 10 calls\nclear to silence: p50 ")


def test_figures() -> None:
    """The percentiles of a hundred trials, and whether the aim is met."""
    met = figures([number * 100_000 for number in range(1, 101)], 7)
    assert (met.trials, met.calls, met.max_ms) == (100, 7, 10.0)
    assert met.p50_ms == pytest.approx(5.05)
    assert met.p99_ms == pytest.approx(9.901)
    assert met.lines()[-1] == "aim: p99 <= 21 ms: met"
    assert Figures(1, 2, 1.0, 21.5, 30.0).lines()[-1] == "aim: p99 <= 21 ms: missed"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--trials", "0"), "--trials is 0, allowed is 1 or more"),
        (("--calls", "1"), "--calls is 1, allowed is 2 to 300"),
        (("--calls", "301"), "--calls is 301, allowed is 2 to 300"),
    ],
)
async def test_bad_arguments(arguments: tuple[str, ...], message: str) -> None:
    """One line that names the value and what is allowed, exit code 2."""
    code, output = await run(*arguments)
    assert code == 2
    assert message in output.splitlines()[-1]
