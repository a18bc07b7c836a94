"""The music that callers on hold hear unless the operator has some of his own: a broken chord.

Made here, so nobody's rights are touched.
"""

import math
import struct
import wave
from pathlib import Path

RATE_HZ = 8000
NOTES_HZ = (262.0, 330.0, 392.0, 523.0, 392.0, 330.0)
"""C major, up and down."""
NOTE_SECONDS = 0.6
LEVEL = 0.12
"""Of full scale: -18 dB, as loud as speech."""
FADE_SECONDS = 0.05


def write(path: Path) -> None:
    """A WAV of 3.6 s, which Asterisk repeats."""
    samples = [sample for hz in NOTES_HZ for sample in _note(hz)]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))


def _note(hz: float) -> list[int]:
    count, fade = round(NOTE_SECONDS * RATE_HZ), FADE_SECONDS * RATE_HZ
    return [
        round(
            32767
            * LEVEL
            * min(1.0, index / fade, (count - index) / fade)
            * math.sin(2 * math.pi * hz * index / RATE_HZ)
        )
        for index in range(count)
    ]
