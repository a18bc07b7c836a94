"""Load tests as a user runs them: real locust processes against the whole stack."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from urllib.parse import urlencode

import pytest
from msgspec import Struct

from loadtest import load
from loadtest.load_figures import CallReport
from loadtest.load_picture import read_calls
from loadtest.load_plan import Behaviour
from loadtest.stack import free_port
from tests.supervisor.stack import RunningStack

CALLERS = 10
PATIENCE_S = 60
SHORT = ("--call-s", "4", "--length", "fixed", "--listen-s", "1.5", "--speech-s", "0.6")
BUSY = ("--max-failed", "1")
"""On a machine that is busy with other tests, callers wait and phones are slow."""


class Run(Struct):
    """What a run of locust left behind: its exit code, what it printed, its table, the calls."""

    code: int
    printed: str
    rows: dict[str, dict[str, str]]
    calls: list[CallReport]


def command(target: str, out: Path, *more: str, seconds: int = 2, web: bool = False) -> list[str]:
    """The command line of `loadtest.load`, for a stack that is there already."""
    arguments = ["--callers", str(CALLERS), "--seconds", str(seconds), "--out", str(out)]
    options = load.parser().parse_args([*arguments, "--per-s", "10", *["--web"] * web])
    return [*load.locust_command(options, target, out / "calls.jsonl"), *more]


def finished(process: subprocess.Popen[str], out: Path) -> Run:
    """Wait for the end of a run, and read what it wrote."""
    printed, _ = process.communicate(timeout=PATIENCE_S)
    table, calls = out / "load_stats.csv", out / "calls.jsonl"
    lines = table.read_text(encoding="utf-8").splitlines() if table.exists() else []
    return Run(
        code=process.returncode,
        printed=printed,
        rows={row["Name"]: row for row in csv.DictReader(lines)},
        calls=read_calls(calls) if calls.exists() else [],
    )


def start(arguments: Sequence[str]) -> "subprocess.Popen[str]":
    """Start locust."""
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )


def check(run: Run, stack: RunningStack) -> None:
    """What locust shows is what the phone measured, and what the supervisor saw."""
    assert run.code == 0, run.printed
    assert len(run.calls) >= CALLERS
    assert len(stack.events("call_placed")) == len(run.calls)
    answered = [call for call in run.calls if call.set_up_ms is not None]
    assert int(run.rows["call: set-up"]["Request Count"]) == len(run.calls)
    failed = sum(call.failure is not None for call in run.calls)
    assert int(run.rows["call: set-up"]["Failure Count"]) == failed
    figures: dict[str, Sequence[float | None]] = {
        "call: set-up": [call.set_up_ms for call in answered],
        "call: length": [call.seconds * 1000 for call in answered],
        "call: time to first audio": [call.first_audio_ms for call in answered],
        "audio: round trip": [trip for call in answered for trip in call.round_trips_ms],
        "audio: silent after barge-in": [ms for call in answered for ms in call.barge_ins_ms],
        "audio: loss": [call.loss_permille for call in answered],
        "audio: jitter": [call.jitter_us for call in answered],
        "audio: longest gap": [call.longest_gap_ms for call in answered],
        "phone: latest packet": [call.send_late_max_ms for call in answered],
    }
    for name, values in figures.items():
        known = [value for value in values if value is not None]
        row = run.rows[name]
        assert len(known) == int(row["Request Count"]) > 0, name
        assert float(row["Average Response Time"]) == pytest.approx(fmean(known), abs=0.01), name
        assert float(row["Min Response Time"]) == pytest.approx(min(known), abs=0.01), name
        assert float(row["Max Response Time"]) == pytest.approx(max(known), abs=0.01), name
    # The audio is there at all: about 50 packets per second of the calls, both ways.
    assert sum(call.received for call in answered) > 30 * sum(call.seconds for call in answered)


def test_on_the_stand_in(tmp_path: Path) -> None:
    """Ten callers, of whom half barge in."""
    with RunningStack() as stack:
        more = (*SHORT, *BUSY, "--barge-in", "0.5")
        check(finished(start(command(stack.sip_uri, tmp_path, *more)), tmp_path), stack)


@pytest.mark.asterisk
def test_on_the_real_asterisk(asterisk_rootfs: Path, tmp_path: Path) -> None:
    """The same by real SIP."""
    with RunningStack(real=True) as stack:
        more = (*SHORT, *BUSY, "--barge-in", "0.5")
        check(finished(start(command(stack.sip_uri, tmp_path, *more)), tmp_path), stack)


def test_early_hang_ups_leave_nothing(tmp_path: Path) -> None:
    """Calls that end before or right after the answer are no failures, and nothing stays up."""
    with RunningStack() as stack:
        early = ("--cancel", "0.5", "--drop", "0.5", "--calls-per-minute", "60")
        run = finished(start(command(stack.sip_uri, tmp_path, *early)), tmp_path)
        assert run.code == 0, run.printed
        assert len(run.calls) >= CALLERS
        assert max(call.seconds for call in run.calls) < 1
        stack.wait_until(
            lambda: not any(stack.left_in_asterisk().values()), 20, "nothing is left of the calls"
        )


def test_a_target_that_is_not_there(tmp_path: Path) -> None:
    """Each call fails when the caller's patience is over; the run ends with 1."""
    nobody = f"sip:agent@127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    run = finished(start(command(nobody, tmp_path, "--patience-s", "1")), tmp_path)
    assert run.code == 1
    assert len(run.calls) >= CALLERS
    assert {call.failure for call in run.calls} == {"no answer within 1 s"}
    assert "CallFailedError('no answer within 1 s')" in run.printed


@pytest.mark.parametrize(
    ("option", "line"),
    [
        (("--barge-in", "2"), "--barge-in is '2.0': Expected `float` <= 1"),
        (("--host", "http://example.com"), "--host is 'http://example.com': allowed is sip:user@"),
        (("--phone-host", "here"), "--phone-host is 'here': allowed is an IPv4 address"),
    ],
)
def test_options_that_are_not_allowed(tmp_path: Path, option: Sequence[str], line: str) -> None:
    """One line says what is wrong, and the exit code that starting again won't help."""
    run = finished(start(command("sip:a@127.0.0.1", tmp_path, *option)), tmp_path)
    assert run.code == 78, run.printed
    assert line in run.printed
    assert "Traceback" not in run.printed


def test_on_the_web_page(tmp_path: Path) -> None:
    """The form has a field for each option of the callers; what it says is done."""
    nobody = f"sip:agent@127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    port = free_port(socket.SOCK_STREAM)
    arguments = command(nobody, tmp_path, "--web-port", str(port), web=True)
    with start(arguments) as process:
        try:
            page = _fetch(f"http://127.0.0.1:{port}/")
            shown = json.loads(page.partition("templateArgs = ")[2].splitlines()[0].rstrip(";"))
            assert set(Behaviour.__struct_fields__) <= set(shown["extra_options"])
            form = urlencode({"user_count": 3, "spawn_rate": 3, "host": nobody, "patience_s": 0.5})
            _fetch(f"http://127.0.0.1:{port}/swarm", form.encode())
            deadline = time.monotonic() + PATIENCE_S
            while "no answer within 0.5 s" not in _fetch(f"http://127.0.0.1:{port}/stats/requests"):
                assert time.monotonic() < deadline, "no failure on the page"
                time.sleep(0.1)
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE_S)


def _fetch(url: str, form: bytes | None = None) -> str:
    """Get a page, or send a form to it, as soon as somebody listens."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(url, form, timeout=10) as answer:
                content: bytes = answer.read()
            return content.decode()
        except urllib.error.URLError:
            assert time.monotonic() < deadline, f"nobody listens at {url}"
            time.sleep(0.1)


def test_the_phone_dies(tmp_path: Path) -> None:
    """Without a phone there are no calls: the run ends at once, with 1."""
    with RunningStack() as stack:
        process = start(command(stack.sip_uri, tmp_path, "--call-s", "600", seconds=600))
        deadline = time.monotonic() + PATIENCE_S
        while not (phones := _phones_of(process.pid)) or len(stack.events("call_placed")) < 3:
            assert time.monotonic() < deadline, "no phone"
            time.sleep(0.05)
        os.kill(phones[0], signal.SIGKILL)
        run = finished(process, tmp_path)
        assert run.code == 1
        assert "the phone has ended with status -9" in run.printed


def test_all_in_one_command(tmp_path: Path) -> None:
    """`make load` in small: it starts the stack, and leaves locust's report and the picture."""
    options = ("--callers", "2", "--seconds", "1", "--per-s", "2", "--out", str(tmp_path))
    arguments = [sys.executable, "-m", "loadtest.load", *options, *SHORT, *BUSY]
    run = finished(start(arguments), tmp_path)
    assert run.code == 0, run.printed
    assert json.dumps("call: set-up") in (tmp_path / "load.html").read_text(encoding="utf-8")
    assert (tmp_path / "load.png").read_bytes().startswith(b"\x89PNG")
    assert len(read_calls(tmp_path / "load_calls.jsonl")) == 2


def _phones_of(pid: int) -> list[int]:
    """The phone processes of a locust process."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [int(child) for child in children if _is_phone(child)]


def _is_phone(pid: str) -> bool:
    return b"loadtest.load_phone" in Path(f"/proc/{pid}/cmdline").read_bytes()
