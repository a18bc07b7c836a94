"""Runs on a time line: both sides aligned, gaps silent, a WAV that others can read."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.recording_format import Run, Track
from supervisor.recordings.timeline import (
    HORIZON,
    parts,
    sha256,
    stereo,
    survey,
    wav,
    wav_header,
)

CALLER, AGENT, END = Track


def laid(runs: list[Run], start: int) -> bytes:
    """The obvious way: each sample into its place of an array; the first that comes counts."""
    end = max([start, *(run.position + len(run.audio) for run in runs)])
    tracks = [bytearray(b"\xff" * (end - start)), bytearray(b"\xff" * (end - start))]
    ends = [start, start]
    for run in runs:
        if run.track == END:
            continue
        for at, value in enumerate(run.audio, run.position):
            if at >= ends[run.track]:
                tracks[run.track][at - start] = value
                ends[run.track] = at + 1
    return bytes(value for pair in zip(*tracks, strict=True) for value in pair)


STEPS = st.lists(
    st.tuples(st.sampled_from([CALLER, AGENT]), st.integers(-200, 900), st.integers(1, 400)),
    max_size=40,
)


@given(STEPS, st.integers(0, 500))
def test_every_sample_has_its_place(steps: list[tuple[Track, int, int]], start: int) -> None:
    """Gaps, overlaps and audio from before the start: as laid out sample by sample."""
    runs = []
    ends = [start, start]
    for number, (track, step, length) in enumerate(steps):
        position = max(0, ends[track] + step)
        runs.append(Run(track, position, bytes([number]) * length))
        ends[track] = max(ends[track], position + length)
    if max(ends) - start > HORIZON:
        return  # then a late run may be left out
    runs.append(Run(END, max(ends), b""))
    assert b"".join(stereo(runs, start)) == laid(runs, start)
    assert survey(runs, start).samples == max(ends) - start


def test_a_silent_caller_takes_no_memory() -> None:
    """Where one side says nothing for an hour, the other is not held back for it."""
    longest = 0
    runs = (Run(AGENT, 8000 * second, bytes(8000)) for second in range(3600))
    taken = 0
    for second, piece in enumerate(stereo(runs, 0)):
        taken += len(piece) // 2
        longest = max(longest, second * 8000 - taken)
    assert taken == 3600 * 8000
    assert longest <= HORIZON + 8000


def test_gaps_are_the_agents() -> None:
    """The caller's missing packets are no gap; a worker's death is."""
    runs = [
        Run(AGENT, 0, bytes(8000)),
        Run(CALLER, 4000, bytes(80)),
        Run(AGENT, 8320, bytes(8000)),
        Run(CALLER, 12000, bytes(80)),
    ]
    seen = survey(runs, 0)
    assert (seen.gaps, seen.gap_ms, seen.complete, seen.samples) == (1, 40, False, 16320)
    assert survey([*runs, Run(END, 16320, b"")], 0).complete


def test_the_wav_says_what_it_is() -> None:
    """µ-law, two channels, 8 kHz; sizes and places as in RFC 2361 and the RIFF format."""
    runs = [Run(CALLER, 100, b"\x01" * 3), Run(AGENT, 100, b"\x02" * 4)]
    data = b"".join(wav(runs, 100, 4))
    assert data[:4] + data[8:16] == b"RIFFWAVEfmt "
    assert struct.unpack_from("<I", data, 4)[0] == len(data) - 8
    assert struct.unpack_from("<IHHIIHHH", data, 16) == (18, 7, 2, 8000, 16000, 2, 8, 0)
    assert struct.unpack_from("<4sII", data, 38) == (b"fact", 4, 4)
    assert struct.unpack_from("<4sI", data, 50) == (b"data", 8)
    assert data[58:] == b"\x01\x02\x01\x02\x01\x02\xff\x02"
    assert survey(runs, 100).size_bytes == len(data)


def test_longer_than_a_wav() -> None:
    """A WAV's sizes have 32 bits."""
    wav_header((1 << 31) - 26)
    with pytest.raises(ValueError, match="longer than a WAV can be"):
        wav_header((1 << 31) - 25)


@given(st.lists(st.binary(max_size=50)), st.integers(1, 40))
def test_parts(pieces: list[bytes], size_bytes: int) -> None:
    """All parts but the last have the size, and together they are what went in."""
    cut = list(parts(pieces, size_bytes))
    assert b"".join(cut) == b"".join(pieces)
    assert all(len(part) == size_bytes for part in cut[:-1])
    assert sha256(cut) == sha256(pieces)
