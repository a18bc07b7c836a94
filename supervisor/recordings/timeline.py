"""A recording's runs as a stereo WAV: the caller left, the agent right. Pure.

µ-law as it came, so nothing is transcoded or lost: WAVE format 7 (RFC 2361, appendix A.5), 8,000
samples a second, two channels. What is missing on a track is silence, so that both stay aligned.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

import msgspec

from shim.recording_format import Run, Track

RATE_HZ: Final = 8000
CHANNELS: Final = 2
MULAW: Final = 7
SILENCE: Final = b"\xff"
HORIZON: Final = 5 * RATE_HZ
"""A track that is so far behind the other has said nothing: it is silent from there on."""
PIECE: Final = RATE_HZ
MAX_WAV_BYTES: Final = (1 << 32) - 1
_WAV: Final = struct.Struct("<4sI4s4sIHHIIHHH4sII4sI")

Runs: TypeAlias = Iterable[Run]


class Survey(msgspec.Struct, frozen=True):
    """What a recording is, seen whole.

    `gaps` and `gap_ms` are of the agent's track, which has a frame for each 20 ms: there a worker
    was replaced, or the disk was full. `complete`: it ends where its worker has ended it.
    """

    samples: int
    gaps: int
    gap_ms: int
    complete: bool
    sha256: str = ""

    @property
    def size_bytes(self) -> int:
        """The size of the WAV."""
        return _WAV.size + self.samples * CHANNELS

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.samples / RATE_HZ


class _Tracks:
    """Lays runs on two tracks, and takes off from them what is certain on both."""

    def __init__(self, start: int) -> None:
        self._waiting = [bytearray(), bytearray()]
        self._ends = [start, start]
        self.samples = 0
        self.gaps = 0
        self.gap_samples = 0
        self.complete = False

    def lay(self, run: Run) -> None:
        """Put a run where it belongs. A track is never written twice: the first run counts."""
        self.complete = run.track == Track.END
        if self.complete:
            for track in range(CHANNELS):
                self._fill(track, run.position)
            return
        missing = run.position - self._ends[run.track]
        if missing > 0 and run.track == Track.AGENT:
            self.gaps += 1
            self.gap_samples += missing
        self._fill(run.track, run.position)
        audio = run.audio[-missing:] if missing < 0 else run.audio
        self._waiting[run.track] += audio
        self._ends[run.track] += len(audio)
        for track in range(CHANNELS):
            self._fill(track, max(self._ends) - HORIZON)

    def take(self) -> Iterator[bytes]:
        """Both tracks interleaved, as far as both are known."""
        left, right = self._waiting
        count = min(len(left), len(right))
        for at in range(0, count, PIECE):
            end = min(at + PIECE, count)
            stereo = bytearray(CHANNELS * (end - at))
            stereo[0::2] = left[at:end]
            stereo[1::2] = right[at:end]
            yield bytes(stereo)
        del left[:count], right[:count]
        self.samples += count

    def even_out(self) -> None:
        """Nothing more comes: the shorter track is silent to the end of the longer one."""
        for track in range(CHANNELS):
            self._fill(track, max(self._ends))

    def _fill(self, track: int, position: int) -> None:
        missing = position - self._ends[track]
        if missing > 0:
            self._waiting[track] += SILENCE * missing
            self._ends[track] = position


def stereo(runs: Runs, start: int) -> Iterator[bytes]:
    """The interleaved samples from the position `start` on, in pieces of a second at most."""
    yield from _stereo(runs, _Tracks(start))


def survey(runs: Runs, start: int) -> Survey:
    """Look at a recording as a whole; the hash is not among it."""
    tracks = _Tracks(start)
    for _ in _stereo(runs, tracks):
        pass
    gap_ms = tracks.gap_samples * 1000 // RATE_HZ
    return Survey(tracks.samples, tracks.gaps, gap_ms, tracks.complete)


def _stereo(runs: Runs, tracks: _Tracks) -> Iterator[bytes]:
    for run in runs:
        tracks.lay(run)
        yield from tracks.take()
    tracks.even_out()
    yield from tracks.take()


def wav_header(samples: int) -> bytes:
    """What stands before so many samples per channel; raises ValueError if no WAV holds them."""
    data_bytes = samples * CHANNELS
    riff_bytes = _WAV.size - 8 + data_bytes
    if riff_bytes > MAX_WAV_BYTES:
        raise ValueError(f"{samples / RATE_HZ:.0f} s are longer than a WAV can be")
    form = (18, MULAW, CHANNELS, RATE_HZ, RATE_HZ * CHANNELS, CHANNELS, 8, 0)
    return _WAV.pack(
        *(b"RIFF", riff_bytes, b"WAVE"),
        *(b"fmt ", *form),
        *(b"fact", 4, samples),
        *(b"data", data_bytes),
    )


def wav(runs: Runs, start: int, samples: int) -> Iterator[bytes]:
    """The WAV in pieces. `samples` is what `survey` has counted."""
    yield wav_header(samples)
    yield from stereo(runs, start)


def sha256(pieces: Iterable[bytes]) -> str:
    """The hash of all pieces, in hex."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def parts(pieces: Iterable[bytes], size_bytes: int) -> Iterator[bytes]:
    """The same bytes in parts of this size; the last one is what is left."""
    part = bytearray()
    for piece in pieces:
        part += piece
        while len(part) >= size_bytes:
            yield bytes(part[:size_bytes])
            del part[:size_bytes]
    if part:
        yield bytes(part)
