"""The sounds of the offline agent, synthesised so that no recording has to come along.

Pure. Each is µ-law audio of whole 20 ms frames.
"""

from math import exp, pi, sin
from typing import Final

from voice_agent.mulaw import BYTES_PER_MS, PEAK, SAMPLE_RATE_HZ, encode, silence

_LEVEL: Final = PEAK * 0.3
"""About -10 dBFS at most: clear on a phone, and well below clipping when notes overlap."""
_ATTACK_MS: Final = 6
_RELEASE_MS: Final = 60
"""Notes fade in and out over these times: a tone that starts or stops at once clicks."""

# A struck bell: (multiple of the note's frequency, loudness, ms until it has faded to 1/e).
# Higher partials are softer and fade sooner, which makes it mellow.
_PARTIALS: Final = ((1.0, 0.60, 320.0), (2.0, 0.25, 160.0), (3.0, 0.15, 80.0))

C5_HZ, E5_HZ, G5_HZ, C6_HZ = 523.25, 659.26, 783.99, 1046.50


def chime(notes: tuple[tuple[int, float], ...], duration_ms: int) -> bytes:
    """Bell notes, each (start in ms, frequency in Hz), as µ-law audio of `duration_ms`."""
    mixed = [0.0] * (duration_ms * BYTES_PER_MS)
    for start_ms, frequency_hz in notes:
        start = start_ms * BYTES_PER_MS
        for at in range(start, len(mixed)):
            mixed[at] += _bell(frequency_hz, (at - start) / BYTES_PER_MS)
    return encode(
        _LEVEL * value * min(1.0, (len(mixed) - at) / (_RELEASE_MS * BYTES_PER_MS))
        for at, value in enumerate(mixed)
    )


def tone(frequency_hz: float, duration_ms: int) -> bytes:
    """A steady tone as µ-law audio, with softened edges."""
    count = duration_ms * BYTES_PER_MS
    edge = _ATTACK_MS * BYTES_PER_MS
    return encode(
        _LEVEL * min(1.0, at / edge, (count - at) / edge) * _wave(frequency_hz, at / BYTES_PER_MS)
        for at in range(count)
    )


def _bell(frequency_hz: float, at_ms: float) -> float:
    """A bell's amplitude `at_ms` after it was struck, between -1 and 1."""
    rung = sum(
        loudness * exp(-at_ms / fade_ms) * _wave(multiple * frequency_hz, at_ms)
        for multiple, loudness, fade_ms in _PARTIALS
    )
    return rung * min(1.0, at_ms / _ATTACK_MS)


def _wave(frequency_hz: float, at_ms: float) -> float:
    return sin(2 * pi * frequency_hz * at_ms * BYTES_PER_MS / SAMPLE_RATE_HZ)


GREETING: Final = chime(((0, C5_HZ), (180, E5_HZ), (360, G5_HZ), (540, C6_HZ)), 1200)
"""A chord rising note by note, 1.2 s: "I am here"."""
GOODBYE: Final = chime(((0, G5_HZ), (200, E5_HZ), (400, C5_HZ)), 1000)
"""Three falling notes, 1 s."""
BEEP: Final = tone(880.0, 120) + silence(120)
"""A short beep and a pause, 240 ms, to be repeated."""
