"""The demo's call: what the caller says, and whether they heard what they should. Pure.

The caller listens to the greeting, says two notes, waits for the echo, and presses #. Times are
seconds from the answer.
"""

from pathlib import Path
from typing import Final

import numpy as np
from msgspec import Struct

from loadtest import audio, recording
from loadtest.phone_plan import CallPlan, CallRecord

SPEAK_AT_S: Final = 3.0
NOTES_HZ: Final = (440.0, 620.0)
"""Neither is in the agent's greeting."""
NOTE_S: Final = 0.8
PRESS_AT_S: Final = 8.0
LIMIT_S: Final = 20.0
ECHO_SHARE: Final = 0.2
"""Of two notes of equal length, each has about half of the power."""


class Heard(Struct, frozen=True):
    """What the caller heard. Milliseconds; None for what did not happen."""

    answered_ms: float | None
    first_sound_ms: float | None
    greeting: bool
    echo: bool
    goodbye: bool
    packets: int
    lost: int
    gap_p50_ms: float | None
    gap_p99_ms: float | None
    gap_max_ms: float | None

    @property
    def ok(self) -> bool:
        """Whether the caller heard greeting and echo."""
        return self.greeting and self.echo

    def lines(self) -> list[str]:
        """The figures for people, the most important one last."""
        if self.answered_ms is None:
            return ["the call was not answered"]
        gaps = (self.gap_p50_ms, self.gap_p99_ms, self.gap_max_ms)
        p50, p99, longest = (f"{gap:.2f}" if gap is not None else "-" for gap in gaps)
        first = f"{self.first_sound_ms:.0f} ms" if self.first_sound_ms is not None else "never"
        return [
            f"answered               {self.answered_ms:.0f} ms after the INVITE",
            f"first sound heard      {first} after the answer",
            f"packets heard          {self.packets}, {self.lost} lost",
            f"gaps between packets   p50 {p50} ms, p99 {p99} ms, longest {longest} ms (due: 20)",
            f"heard: greeting={_yes(self.greeting)} echo={_yes(self.echo)} "
            f"goodbye={_yes(self.goodbye)} answered_ms={self.answered_ms:.0f} "
            f"first_sound={first.replace(' ', '')} gap_p99_ms={p99} lost={self.lost}",
        ]


def plan(to: str) -> CallPlan:
    """The demo's call to a SIP URI."""
    notes = b"".join(audio.tone(note, NOTE_S) for note in NOTES_HZ)
    return CallPlan(
        to=to,
        from_user="demo",
        audio=audio.silence(SPEAK_AT_S) + notes,
        digits=((PRESS_AT_S, "#"),),
        seconds=LIMIT_S,
    )


def judge(record: CallRecord) -> Heard:
    """Measure a finished call of `plan`."""
    if record.answered_at is None or not record.packets:
        return Heard(None, None, False, False, False, 0, 0, None, None, None)
    answered_ns = int(record.answered_at * 1e9)
    sound_ns = recording.first_sound_ns(record.packets)
    pcm = from_answer(record)
    greeting = pcm[: _samples(SPEAK_AT_S)]
    echo = pcm[_samples(SPEAK_AT_S + len(NOTES_HZ) * NOTE_S) : _samples(PRESS_AT_S)]
    goodbye = pcm[_samples(PRESS_AT_S) :]
    gaps = recording.gaps(record.packets)
    return Heard(
        answered_ms=(record.answered_at - record.invited_at) * 1000,
        first_sound_ms=None if sound_ns is None else (sound_ns - answered_ns) / 1e6,
        greeting=recording.dominant_hz(greeting) is not None,
        echo=all(recording.power_share(echo, note) > ECHO_SHARE for note in NOTES_HZ),
        goodbye=recording.dominant_hz(goodbye) is not None and record.ended_by == "callee",
        packets=len(record.packets),
        lost=recording.continuity(record.packets).lost,
        gap_p50_ms=gaps.p50_ms if gaps else None,
        gap_p99_ms=gaps.p99_ms if gaps else None,
        gap_max_ms=gaps.max_ms if gaps else None,
    )


def from_answer(record: CallRecord) -> audio.Pcm:
    """What the caller heard, sample 0 being the moment of the answer."""
    late_s = record.packets[0].at_ns / 1e9 - (record.answered_at or 0.0)
    lead = np.zeros(max(0, _samples(late_s)), dtype=np.int16)
    return np.concatenate([lead, recording.timeline(record.packets)])


def write_wav(path: Path, record: CallRecord) -> None:
    """Write what the caller heard as a mono WAV file."""
    audio.write_wav(path, from_answer(record))


def _samples(seconds: float) -> int:
    return round(seconds * audio.RATE_HZ)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
