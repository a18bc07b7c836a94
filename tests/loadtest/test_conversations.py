"""The response times of conversations, on literal calls and on a short run."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from loadtest import audio, conversations
from loadtest.phone_plan import CallRecord
from loadtest.recording import ReceivedPacket

FRAME_NS = 20_000_000
NOTHING = CallRecord(
    outcome="answered",
    status=200,
    call_id="a",
    invited_at=0.0,
    answered_at=0.0,
    ended_at=0.0,
    ended_by="caller",
    packets=[],
    received_packets=0,
    longest_gap_ms=0.0,
    stray=0,
    sent_packets=0,
    first_sent_ns=1_000_000_000,
    sent_audio=b"",
    send_late_max_ms=0.0,
)


def heard(*sounds_s: tuple[float, float]) -> CallRecord:
    """A call whose caller heard sound from and to these seconds after their first packet."""
    frame = audio.tone(500.0, 0.02)
    packets = [
        ReceivedPacket(1_000_000_000 + number * FRAME_NS, number, number * 160, 1, 0, frame)
        for start, end in sounds_s
        for number in range(round(start * 50), round(end * 50))
    ]
    return msgspec.structs.replace(NOTHING, packets=packets)


def test_response_times() -> None:
    """From the end of each turn (at 3.5 and 7.5 s) to the first sound; none for the third."""
    times = conversations.response_ms(heard((0, 1), (4.0, 5.0), (8.1, 9.0)), 3)
    assert times == [pytest.approx(500.0), pytest.approx(600.0), None]


def test_figures() -> None:
    """All turns count, and those without an answer are named; none at all is an error."""
    figures = conversations.figures([heard((4.0, 5.0)), heard((4.2, 5.0))], 2, 0.25)
    assert (figures.calls, figures.turns, figures.unanswered) == (2, 4, 2)
    assert figures.p50_ms == pytest.approx(600.0)
    assert "p50 600" in str(figures)
    assert figures.gap_max_ms == pytest.approx(20.0)
    assert figures.lost == 0
    with pytest.raises(ValueError, match="no turn"):
        conversations.figures([NOTHING], 2, 0.0)


def test_a_short_run(tmp_path: Path) -> None:
    """Three conversations with the whole system on the stand-in: every turn is answered."""
    found = tmp_path / "found.json"
    command = [sys.executable, "-m", "loadtest.conversations", "--asterisk", "stand-in"]
    subprocess.run([*command, "--calls", "3", "--turns", "1", "--json", found], check=True)
    figures = json.loads(found.read_bytes())
    assert (figures["turns"], figures["unanswered"], figures["lost"]) == (3, 0, 0)
    assert 400 < figures["p50_ms"] < 3000
