"""Finds out when a caller begins to speak and when a turn is over.

Pure: frames go in, and their length is the clock. Which frames are voice is decided by loudness
(`is_loud`, which hears tones as well) or by whatever detector is passed in.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from voice_agent.mulaw import BYTES_PER_MS, DECODED, PEAK

THRESHOLD_DBFS: Final = -40.0
"""Speech on phone lines is mostly at -30 to -15 dBFS, the noise between words below -45."""
ONSET_MS: Final = 60
"""That much loud audio in a row is speech; less is a click."""
LEAD_MS: Final = 100
"""What a turn keeps from before the onset: soft consonants are below the threshold."""
PAUSE_MS: Final = 400
"""That much quiet in a row ends a turn; pauses between words are shorter."""
TAIL_MS: Final = 100
"""What a turn keeps of that pause."""
MAX_TURN_MS: Final = 30_000
"""A longer turn is cut here, so that a noisy line can't fill the memory."""

# Squares of the samples with the threshold as 1.0, by µ-law byte: one look-up per sample.
_POWER: Final = tuple(
    (sample / (PEAK * 10 ** (THRESHOLD_DBFS / 20))) ** 2 for sample in DECODED
).__getitem__


class SpeechStarted(msgspec.Struct, frozen=True):
    """The caller began to speak, `ONSET_MS` ago."""


class SpeechEnded(msgspec.Struct, frozen=True):
    """The caller's turn is over. `audio` is all of it, µ-law, from the lead to the tail."""

    audio: bytes


SpeechEvent: TypeAlias = SpeechStarted | SpeechEnded


class SpeechDetector:
    """Cuts a caller's audio into turns; `is_voice` judges its frames (20 ms of µ-law)."""

    def __init__(self, is_voice: Callable[[bytes], bool] | None = None) -> None:
        self._is_voice = is_voice or is_loud
        self._speaking = False
        self._kept = bytearray()
        """The turn so far, or, while nobody speaks, the last ms before one."""
        self._run_bytes = 0
        """Loud audio in a row while nobody speaks; quiet audio in a row during a turn."""

    def push(self, frame: bytes) -> SpeechEvent | None:
        """Take the next audio: usually a 20 ms frame, though any length counts as it is.

        A frame is loud or quiet as a whole.
        """
        if not frame:
            return None
        self._kept += frame
        loud = self._is_voice(frame)
        self._run_bytes = self._run_bytes + len(frame) if loud is not self._speaking else 0
        return self._during_turn() if self._speaking else self._between_turns()

    def _between_turns(self) -> SpeechStarted | None:
        del self._kept[: -(LEAD_MS + ONSET_MS) * BYTES_PER_MS]
        if self._run_bytes < ONSET_MS * BYTES_PER_MS:
            return None
        self._speaking = True
        self._run_bytes = 0
        return SpeechStarted()

    def _during_turn(self) -> SpeechEnded | None:
        paused = self._run_bytes >= PAUSE_MS * BYTES_PER_MS
        if not paused and len(self._kept) < MAX_TURN_MS * BYTES_PER_MS:
            return None
        surplus = max(0, self._run_bytes - TAIL_MS * BYTES_PER_MS)
        audio = bytes(self._kept[: len(self._kept) - surplus])
        self._speaking = False
        self._kept.clear()
        self._run_bytes = 0
        return SpeechEnded(audio)


def is_loud(frame: bytes) -> bool:
    """Whether the mean power of µ-law audio is above the threshold. `frame` is not empty."""
    return sum(map(_POWER, frame)) > len(frame)
