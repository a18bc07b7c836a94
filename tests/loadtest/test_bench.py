"""The benchmark: its arithmetic, and whole small runs with real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from shutil import which

import msgspec
import pytest

from loadtest.bench import run_of
from loadtest.bench_figures import Comparison, Measured, Run, compare, median, table
from loadtest.bench_load import LoadReport
from loadtest.bench_programs import CHECKOUT

FIRST_PORT = 25100
"""Of these tests, for at most 100 calls: no other test uses it, nor the 250 that follow."""
START_S, END_S = 30.0, 15.0

needs_compiler = pytest.mark.skipif(which("cc") is None, reason="no C compiler on this machine")


def load_report(**changed: float) -> LoadReport:
    """A report of 100 calls without fault, but for what is `changed`."""
    report = LoadReport(
        calls=100,
        seconds=10.0,
        sent=50_000,
        unsent=0,
        received=50_000,
        received_per_second_per_call=50.0,
        gap_p50_ms=20.0,
        gap_p99_ms=20.5,
        gap_p999_ms=21.0,
        gap_max_ms=22.5,
        off_2ms_fraction=0.0001,
        lost_fraction=0.0,
        loss_fraction=0.0,
        round_trip_p50_ms=15.0,
        round_trip_p99_ms=25.0,
        late_p99_ms=1.0,
        late_max_ms=1.5,
        late_2ms_fraction=0.0,
        fell_behind=False,
    )
    return msgspec.structs.replace(report, **changed)


def measured(us_per_frame_pair: float, calls: int = 100, **changed: float) -> Measured:
    """A contender that takes so much CPU."""
    return Measured(
        calls=calls,
        us_per_frame_pair=us_per_frame_pair,
        cpu_fraction=us_per_frame_pair * calls * 50 / 1e6,
        foreign_fraction=0.01,
        rss_kb=40_000,
        rss_kb_per_call=25.0,
        load=load_report(**changed),
    )


def test_ratios_are_ours_by_the_other() -> None:
    """30 us against a floor of 20 us is 1.5, against a textbook version of 150 us 0.2."""
    found = {"ours": measured(30), "floor": measured(20), "textbook": measured(150)}
    comparison = compare(Run(calls=100, seconds=10), found)
    assert comparison.ratio_to_floor == 1.5
    assert comparison.ratio_to_textbook == 0.2
    assert comparison.sent_per_second_per_call == 50.0
    assert comparison.floor_off_2ms_fraction == 0.0001
    assert comparison.contenders["floor"].calls_per_core == pytest.approx(1000)


def test_what_was_not_measured_is_none() -> None:
    """Without a floor and a textbook version there is nothing to compare with."""
    comparison = compare(Run(calls=100, seconds=10), {"ours": measured(30)})
    assert comparison.ours_us_per_frame_pair == 30
    assert comparison.floor_us_per_frame_pair is None
    assert comparison.textbook_calls is None
    assert (comparison.ratio_to_floor, comparison.ratio_to_textbook) == (None, None)


def test_the_median_round_counts() -> None:
    """Of three rounds the middle one, of two the better one."""
    assert median([measured(40), measured(20), measured(30)]) == measured(30)
    assert median([measured(40), measured(20)]) == measured(20)


def test_a_run_that_is_worth_nothing_says_so() -> None:
    """The table says when the load generator fell behind, and when others used the CPU."""
    late = measured(30, fell_behind=True, late_2ms_fraction=0.02)
    busy = msgspec.structs.replace(measured(20), foreign_fraction=0.3)
    comparison = compare(Run(calls=100, seconds=10), {"ours": late, "floor": busy})
    text = "\n".join(table(comparison))
    assert comparison.fell_behind
    assert "NOT VALID: for ours, 2.00% of what the load generator sent" in text
    assert "DOUBTFUL: others used 30.0% of the CPU that C floor was measured on" in text


def test_the_table_says_with_how_many_calls_the_textbook_version_ran() -> None:
    """It is measured with fewer calls, and drifts."""
    slow = measured(150, received_per_second_per_call=48.6)
    comparison = compare(Run(calls=300, seconds=10), {"ours": measured(30), "textbook": slow})
    lines = table(comparison)
    assert lines[0] == "300 calls for 10 s, plain WebSockets"
    assert "with 100 calls: it drifts, to 48.60 packets per second" in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--calls", "0"], "--calls is 0, allowed is 1 to 1200"),
        (["--seconds", "0"], "--seconds is 0.0, allowed is 0.5 to 3600"),
        (["--workers", "3"], "--workers is 3, allowed is 1 to 2"),
        (["--only", "ours,mine"], "--only has 'mine', allowed is some of ours,floor,textbook"),
    ],
)
def test_a_bad_argument_is_named(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line's error says the value and what is allowed."""
    with pytest.raises(SystemExit, match="2"):
        run_of(arguments, cpus=2)
    assert said in capsys.readouterr().err


def command(*arguments: str) -> list[str]:
    """The benchmark's command line, on ports of these tests."""
    return [sys.executable, "-m", "loadtest.bench", "--port", str(FIRST_PORT), *arguments]


def run_bench(directory: Path, *arguments: str) -> Comparison:
    """Run the benchmark in a process of its own, as it moves off the first CPU; the figures."""
    json_path = directory / "bench.json"
    ended = subprocess.run(
        command("--seconds", "1", "--warm-up", "0.5", "--json", str(json_path), *arguments),
        env={**os.environ, "TMPDIR": str(directory)},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert json_path.exists(), ended.stderr
    comparison = msgspec.json.decode(json_path.read_bytes(), type=Comparison)
    assert ended.returncode == comparison.fell_behind, ended.stderr  # it may, on a busy machine
    return comparison


@needs_compiler
def test_a_run_measures_all_three(tmp_path: Path) -> None:
    """Twelve calls of each contender: every frame comes back, and what it costs is seen."""
    comparison = run_bench(tmp_path, "--calls", "12")
    for name in ("ours", "floor"):
        load = comparison.contenders[name].load
        assert load.loss_fraction == 0
        assert load.received_per_second_per_call == pytest.approx(50, abs=1)
    assert comparison.ratio_to_floor is not None
    assert comparison.ratio_to_textbook is not None
    assert comparison.ratio_to_textbook < 1
    assert comparison.rss_kb_per_call is not None
    assert left_of(tmp_path) == []


@needs_compiler
def test_a_run_over_tls(tmp_path: Path) -> None:
    """With TLS the worker accepts the voice server's certificate; the floor is left out."""
    comparison = run_bench(tmp_path, "--calls", "2", "--tls", "--only", "ours,floor")
    assert list(comparison.contenders) == ["ours"]
    assert comparison.tls
    assert comparison.loss_fraction == 0


@needs_compiler
def test_a_taken_port_ends_the_run() -> None:
    """A UDP port that another program has: one error, exit code 1."""
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", FIRST_PORT))
        ended = subprocess.run(
            command("--calls", "1"), cwd=CHECKOUT, capture_output=True, text=True, timeout=30
        )
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert f"UDP port {FIRST_PORT}: Address already in use" in ended.stderr


@needs_compiler
def test_sigterm_leaves_nothing(tmp_path: Path) -> None:
    """A run that is stopped takes along all that it has started, workers too."""
    bench = subprocess.Popen(
        command("--calls", "20", "--only", "ours"),
        env={**os.environ, "TMPDIR": str(tmp_path)},
        cwd=CHECKOUT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + START_S
        while len(left_of(tmp_path)) < 4:  # voice server, load generator, supervisor, worker
            assert time.monotonic() < deadline, "the run did not begin"
            time.sleep(0.02)
        bench.send_signal(signal.SIGTERM)
        _, errors = bench.communicate(timeout=END_S)
    finally:
        bench.kill()
    assert (bench.returncode, errors) == (1, "error: stopped by SIGTERM\n")
    assert left_of(tmp_path) == []


def left_of(directory: Path) -> list[str]:
    """The command lines of the processes that work in a directory below this one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(directory):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # it has ended meanwhile
    return found
