"""The measurement of set-ups: its arithmetic, and a small run on the stand-in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtest import audio
from loadtest.bench_programs import CHECKOUT
from loadtest.bench_setup import (
    SetUp,
    SetupFigures,
    heard_ms,
    main,
    rate_per_s,
    set_ups,
    times,
)
from loadtest.phone_plan import CallRecord
from loadtest.recording import PCMU, ReceivedPacket


def entry(call_id: str, at: str, **fields: object) -> dict[str, Any]:
    """A line of the supervisor's log, `at` a time of one day."""
    return {"call_id": call_id, "timestamp": f"2026-01-01T{at}Z", **fields}


PLACED = [entry("CA1", "10:00:00.000000"), entry("CA2", "10:00:01.000000")]


def test_ready_is_when_both_parts_are() -> None:
    """A call is ready when it is bridged and has its stream, whichever comes later."""
    started = [entry("CA1", "10:00:00.004500"), entry("CA2", "10:00:01.030000")]
    ended = [entry("CA1", "10:00:09", setup_ms=12), entry("CA2", "10:00:09", setup_ms=7)]
    first, second = set_ups(PLACED, started, ended)
    assert (first.setup_ms, first.ready_ms) == (12, 12)
    assert first.stream_ms == pytest.approx(4.5, abs=0.001)
    assert second.setup_ms == 7
    assert second.ready_ms == second.stream_ms == pytest.approx(30, abs=0.001)


def test_a_call_that_did_not_become_ready_does_not_count() -> None:
    """One without a stream, and one that was never bridged."""
    started = [entry("CA2", "10:00:01.030000")]
    ended = [entry("CA1", "10:00:09", setup_ms=12), entry("CA2", "10:00:09", setup_ms=None)]
    assert set_ups(PLACED, started, ended) == []


def test_the_rate_is_that_of_calls_that_became_ready() -> None:
    """Three calls, ready half a second after each other, are two per second."""
    found = [SetUp(100.0, 10, 5), SetUp(100.5, 5, 10), SetUp(101.0, 10, 10)]
    assert rate_per_s(found) == pytest.approx(2)
    assert rate_per_s(found[:1]) == 0


def test_times_are_percentiles() -> None:
    """Of 1 to 101 ms the middle is 51; of nothing there is nothing to say."""
    found = times([float(value) for value in range(1, 102)])
    assert found is not None
    assert (found.calls, found.p50_ms, found.p95_ms, found.p99_ms) == (101, 51, 96, 100)
    assert found.max_ms == 101
    assert times([]) is None


def record(answered_at: float | None, packets: list[ReceivedPacket]) -> CallRecord:
    """What became of a call that heard these packets."""
    return CallRecord(
        outcome="answered" if answered_at else "refused",
        status=200 if answered_at else 503,
        call_id="call",
        invited_at=9.0,
        answered_at=answered_at,
        ended_at=12.0,
        ended_by="caller" if answered_at else None,
        packets=packets,
        received_packets=len(packets),
        longest_gap_ms=20.0,
        stray=0,
        sent_packets=0,
        first_sent_ns=None,
        sent_audio=b"",
        send_late_max_ms=0.0,
    )


def test_what_the_caller_hears_counts_from_the_answer() -> None:
    """Silence from 15 ms after the answer on, sound from 35 ms on."""
    sounds = [audio.SILENT_FRAME, audio.tone(400, 0.02)]
    packets = [
        ReceivedPacket(10_015_000_000 + 20_000_000 * number, number, 160 * number, 1, PCMU, sound)
        for number, sound in enumerate(sounds)
    ]
    assert heard_ms(record(10.0, packets)) == (15, 35)
    assert heard_ms(record(10.0, packets[:1])) == (15, None)
    assert heard_ms(record(10.0, [])) == (None, None)
    assert heard_ms(record(None, [])) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--calls", "0"], "--calls is 0, allowed is 1 to 20000"),
        (["--rate", "500"], "--rate is 500.0, allowed is 0.1 to 200"),
        (["--asterisk", "other"], "invalid choice: 'other'"),
    ],
)
def test_a_bad_argument_is_named(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line's error says the value and what is allowed."""
    with pytest.raises(SystemExit, match="2"):
        main(["--asterisk", "stand-in", *arguments])
    assert said in capsys.readouterr().err


def test_a_run_on_the_stand_in(tmp_path: Path) -> None:
    """Five calls: all become ready and are heard, and nothing is left of them."""
    json_path = tmp_path / "setup.json"
    arguments = ["--asterisk", "stand-in", "--calls", "5", "--rate", "10", "--hold", "1"]
    ended = subprocess.run(
        [sys.executable, "-m", "loadtest.bench_setup", *arguments, "--json", str(json_path)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    figures = msgspec.json.decode(json_path.read_bytes(), type=SetupFigures)
    assert (figures.failed_calls, figures.left_in_asterisk) == (0, 0)
    assert figures.ready_ms is not None
    assert figures.first_audio_ms is not None
    assert figures.ready_ms.calls == figures.first_audio_ms.calls == 5
    assert figures.set_ups_per_second == pytest.approx(10, abs=2)
