"""The picture of a call, looked at pixel by pixel."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from msgspec.structs import replace
from numpy.typing import NDArray

from loadtest.audio import SILENT_FRAME, decode, silence, tone
from loadtest.phone_plan import CallRecord
from loadtest.picture import (
    HEARD_COLOR,
    SAID_COLOR,
    Track,
    draw_call,
    draw_tracks,
    figures_of,
)
from loadtest.recording import ReceivedPacket

LEFT, RIGHT = 0.065, 0.985  # of the axes, as parts of the picture's width


def columns_of(path: Path, color: str) -> NDArray[np.intp]:
    """The pixel columns of the axes in which a twelfth of the height has this colour."""
    pixels = imread(path)[:, :, :3]
    same = np.abs(pixels - np.array(to_rgb(color))).max(axis=2) < 0.02
    same[:, : int(LEFT * pixels.shape[1])] = False  # the labels have it too
    return np.flatnonzero(same.sum(axis=0) > len(pixels) / 12)


def seconds_of(path: Path, color: str, span_seconds: float) -> tuple[float, float]:
    """From when to when the picture shows sound of this colour, on an axis from 0 to the span."""
    width = imread(path).shape[1]
    columns = columns_of(path, color)
    first, last = (int(c) / width for c in (columns[0], columns[-1]))
    scale = span_seconds / (RIGHT - LEFT)
    return (first - LEFT) * scale, (last - LEFT) * scale


def record_of(heard: bytes) -> CallRecord:
    """A call that said a tone from 1 to 2 s, and heard this from 20 ms on."""
    answered_ns = 10**12
    packets = [
        ReceivedPacket(answered_ns + (i + 1) * 20_000_000, i, i * 160, 1, 0, heard[i * 160 :][:160])
        for i in range(len(heard) // 160)
    ]
    return CallRecord(
        outcome="answered",
        status=200,
        call_id="a@b",
        invited_at=answered_ns / 1e9 - 1,
        answered_at=answered_ns / 1e9,
        ended_at=answered_ns / 1e9 + 4,
        ended_by="caller",
        packets=packets,
        received_packets=len(packets),
        longest_gap_ms=20.0,
        stray=0,
        sent_packets=200,
        first_sent_ns=answered_ns,
        sent_audio=silence(1) + tone(440, 1) + silence(2),
        send_late_max_ms=0.0,
    )


def test_draw_tracks_shows_both_sides_at_their_time(tmp_path: Path) -> None:
    """Speech from 1 to 2 s and its echo from 3 to 4 s are there, and not elsewhere."""
    path = tmp_path / "call.png"
    said = Track(decode(silence(1) + tone(440, 1) + silence(3)))
    heard = Track(decode(tone(440, 1) + silence(1)), start_seconds=3.0)
    draw_tracks(path, said, heard, "Echo", ["lost 0"])
    assert seconds_of(path, SAID_COLOR, 5) == pytest.approx((1.0, 2.0), abs=0.05)
    assert seconds_of(path, HEARD_COLOR, 5) == pytest.approx((3.0, 4.0), abs=0.05)


def test_draw_tracks_of_silence(tmp_path: Path) -> None:
    """Nothing said, nothing heard, or not a single sample: a picture all the same."""
    path = tmp_path / "call.png"
    draw_tracks(path, Track(decode(b"")), Track(decode(SILENT_FRAME)))
    assert not len(columns_of(path, SAID_COLOR))
    assert not len(columns_of(path, HEARD_COLOR))


def test_draw_call_places_what_was_heard_by_its_arrival(tmp_path: Path) -> None:
    """The first packet of the record came 20 ms after the answer."""
    path = tmp_path / "call.png"
    draw_call(path, record_of(silence(2) + tone(440, 1.98)), "Echo")
    assert seconds_of(path, SAID_COLOR, 4) == pytest.approx((1.0, 2.0), abs=0.05)
    assert seconds_of(path, HEARD_COLOR, 4) == pytest.approx((2.02, 4.0), abs=0.05)


def test_draw_call_that_heard_nothing(tmp_path: Path) -> None:
    """A call without a packet either way is drawn, on an axis that begins at the answer."""
    path = tmp_path / "call.png"
    draw_call(path, replace(record_of(b""), first_sent_ns=None, sent_audio=b""))
    assert path.read_bytes().startswith(b"\x89PNG")


def test_draw_call_refuses_a_call_that_was_not_answered(tmp_path: Path) -> None:
    """The error says what became of it."""
    record = replace(record_of(b""), outcome="refused", answered_at=None)
    with pytest.raises(ValueError, match=r"call a@b was not answered \(refused\): no picture"):
        draw_call(tmp_path / "call.png", record)


def test_figures_of_a_call() -> None:
    """Counts, cadence and the first sound, in words."""
    assert figures_of(record_of(silence(0.1) + tone(440, 0.1))) == [
        "packets sent 200, heard 10",
        "lost 0, duplicate 0, reordered 0",
        "gap p50 20.0, p99 20.0, max 20.0 ms",
        "first sound 120 ms after the answer",
    ]
    assert len(figures_of(record_of(b""))) == 2
