"""Tells voice from noise with WebRTC's detector (the webrtcvad-wheels package).

It knows speech: steady tones it may take for noise, so the tones of a load test need `energy`.
"""

import sys
from array import array
from typing import Final

import webrtcvad  # type: ignore[import-untyped]  # ships no types

from voice_agent.mulaw import BYTES_PER_MS, DECODED, SAMPLE_RATE_HZ

AGGRESSIVENESS: Final = 2
"""Of 0 to 3: the higher, the less noise passes for speech. 2 suits telephone lines."""
_FRAME_BYTES: Final = frozenset(ms * BYTES_PER_MS for ms in (10, 20, 30))
"""The only lengths that the detector takes."""

if sys.byteorder == "big":  # pragma: no cover
    raise ImportError("webrtcvad takes little-endian samples, which array('h') does not give here")


class VoiceDetector:
    """The detector of one caller: it adapts to the noise of the line."""

    def __init__(self) -> None:
        self._vad = webrtcvad.Vad(AGGRESSIVENESS)

    def is_voice(self, frame: bytes) -> bool:
        """Whether a frame of 10, 20 or 30 ms of µ-law is voice; other lengths never are."""
        if len(frame) not in _FRAME_BYTES:
            return False
        samples = array("h", [DECODED[code] for code in frame])
        return bool(self._vad.is_speech(samples.tobytes(), SAMPLE_RATE_HZ))
