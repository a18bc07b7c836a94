"""G.711 µ-law, the audio of phone calls: 8,000 samples per second, one byte each.

Pure. Values as in ITU-T G.711 table 2a/2b, scaled to 16 bits: a byte holds sign, exponent and
mantissa of the sample plus a bias, all bits inverted so that silence (0xFF) has many ones.
"""

from collections.abc import Iterable
from typing import Final

SAMPLE_RATE_HZ: Final = 8000
BYTES_PER_MS: Final = SAMPLE_RATE_HZ // 1000
FRAME_BYTES: Final = 20 * BYTES_PER_MS
"""One frame is 20 ms (the ptime of the stream)."""
SILENCE: Final = b"\xff"
PEAK: Final = 32124
"""The largest 16-bit value that a µ-law byte stands for."""

_BIAS: Final = 132
_CLIP: Final = 32767 - _BIAS


def encode_sample(sample: int) -> int:
    """The µ-law byte (0 to 255) next to a linear 16-bit sample; louder ones are clipped."""
    sign = 0x80 if sample < 0 else 0
    biased = min(abs(sample), _CLIP) + _BIAS
    exponent = biased.bit_length() - _BIAS.bit_length()
    mantissa = biased >> (exponent + 3) & 0x0F
    return ~(sign | exponent << 4 | mantissa) & 0xFF


def decode_byte(code: int) -> int:
    """The linear 16-bit sample that a µ-law byte stands for."""
    bits = ~code & 0xFF
    magnitude = (((bits & 0x0F) << 3) + _BIAS << (bits >> 4 & 0x07)) - _BIAS
    return -magnitude if bits & 0x80 else magnitude


DECODED: Final = tuple(decode_byte(code) for code in range(256))
"""The linear 16-bit sample of each µ-law byte."""


def encode(samples: Iterable[float]) -> bytes:
    """µ-law audio of linear samples in the range of 16 bits."""
    return bytes(encode_sample(round(sample)) for sample in samples)


def decode(audio: bytes) -> list[int]:
    """Linear 16-bit samples of µ-law audio."""
    return [DECODED[code] for code in audio]


def silence(duration_ms: int) -> bytes:
    """µ-law silence."""
    return SILENCE * (duration_ms * BYTES_PER_MS)
