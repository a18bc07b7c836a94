"""The synthesised sounds, looked at as numbers."""

from cmath import exp, pi

import pytest

from voice_agent.mulaw import FRAME_BYTES, SAMPLE_RATE_HZ, decode
from voice_agent.sounds import BEEP, C5_HZ, C6_HZ, E5_HZ, G5_HZ, GOODBYE, GREETING, tone


def strength(audio: bytes, frequency_hz: float) -> float:
    """The amplitude of one frequency in µ-law audio (one term of a Fourier transform)."""
    samples = decode(audio)
    step = -2j * pi * frequency_hz / SAMPLE_RATE_HZ
    return abs(sum(s * exp(step * at) for at, s in enumerate(samples))) * 2 / len(samples)


@pytest.mark.parametrize(("sound", "ms"), [(GREETING, 1200), (GOODBYE, 1000), (BEEP, 240)])
def test_sounds_are_whole_frames_of_the_stated_length(sound: bytes, ms: int) -> None:
    """No sound leaves half a frame behind."""
    assert len(sound) == ms * 8
    assert len(sound) % FRAME_BYTES == 0


@pytest.mark.parametrize("sound", [GREETING, GOODBYE, BEEP])
def test_sounds_are_loud_but_not_clipped_and_begin_and_end_softly(sound: bytes) -> None:
    """No clicks at the edges, and room to the maximum."""
    samples = decode(sound)
    assert 4000 < max(map(abs, samples)) < 16000
    assert abs(samples[0]) < 100
    assert abs(samples[-1]) < 100


def test_greeting_rings_its_notes() -> None:
    """The chord's four notes are there, what lies between them is not."""
    for note_hz in (C5_HZ, E5_HZ, G5_HZ, C6_HZ):
        assert strength(GREETING, note_hz) > 5 * strength(GREETING, 450.0)


def test_tone_has_one_frequency() -> None:
    """Nearly all of it is where it should be."""
    audio = tone(440.0, 500)
    assert strength(audio, 440.0) > 9000
    assert strength(audio, 660.0) < 100
