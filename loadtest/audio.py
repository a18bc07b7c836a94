"""Sound for test calls: G.711 µ-law, tones, a speech-like burst, and WAV files.

Everything is mono at 8,000 samples/s. Linear audio is int16 in a numpy array; µ-law audio is
`bytes`, one per sample, as it travels in PCMU packets (RFC 3551 section 4.5.14).
"""

from __future__ import annotations

import wave
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pcm: TypeAlias = NDArray[np.int16]

RATE_HZ = 8000
FRAME_BYTES = 160  # 20 ms
SILENCE_BYTE = b"\xff"  # G.711's positive zero
SILENT_FRAME = SILENCE_BYTE * FRAME_BYTES

# ITU-T G.711 table 2: eight segments, each twice as coarse as the one below. Over a bias of 33 (132
# on the 16-bit scale) every segment starts at a power of two, and its number is an exponent.
_BIAS = 132
_CLIP = 32635


def _decode_table() -> Pcm:
    code = ~np.arange(256, dtype=np.uint8)  # all bits travel inverted
    exponent, mantissa = (code >> 4) & 7, code & 15
    magnitude = ((mantissa.astype(np.int32) * 8 + _BIAS) << exponent) - _BIAS
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _encode_table() -> NDArray[np.uint8]:
    """Indexed by the sample's 16 bits read as an unsigned number."""
    sample = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32)
    biased = np.minimum(np.abs(sample), _CLIP) + _BIAS
    exponent = np.floor(np.log2(biased)).astype(np.int32) - 7
    mantissa = (biased >> (exponent + 3)) & 15
    sign = np.where(sample < 0, 0x80, 0)
    table: NDArray[np.uint8] = (~(sign | exponent << 4 | mantissa) & 0xFF).astype(np.uint8)
    return table


_DECODED = _decode_table()
_ENCODED = _encode_table()


def decode(mulaw: bytes) -> Pcm:
    """µ-law to linear, one sample per byte, on the full 16-bit scale (±32,124)."""
    return _DECODED[np.frombuffer(mulaw, dtype=np.uint8)]


def encode(pcm: Pcm) -> bytes:
    """Linear to µ-law, one byte per sample; louder than ±32,635 is clipped."""
    return _ENCODED[np.asarray(pcm, dtype=np.int16).view(np.uint16)].tobytes()


def silence(seconds: float) -> bytes:
    """µ-law silence."""
    return SILENCE_BYTE * _samples(seconds)


def tone(frequency_hz: float, seconds: float, level: float = 0.5) -> bytes:
    """A sine as µ-law. `level` is its peak, from 0 to 1 of full scale."""
    if not 0 < frequency_hz < RATE_HZ / 2:
        raise ValueError(f"a tone of {frequency_hz} Hz must be above 0 and below {RATE_HZ // 2} Hz")
    wave_form = np.sin(2 * np.pi * frequency_hz * _times(seconds))
    return _at_level(wave_form, level)


def speech_burst(seconds: float = 1.0, pitch_hz: float = 120.0, level: float = 0.6) -> bytes:
    """Something like an utterance, as µ-law; the same arguments give the same bytes.

    Harmonics of a gliding pitch under two wandering formants, in four syllables per second: loud
    and modulated enough for speech detectors, and easy to see and to find again in a recording.
    """
    t = _times(seconds)
    phase = 2 * np.pi * np.cumsum(pitch_hz * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * t))) / RATE_HZ
    formants = (600 + 200 * np.sin(2 * np.pi * 2.1 * t), 1500 + 400 * np.cos(2 * np.pi * 1.3 * t))
    wave_form = np.zeros_like(t)
    for harmonic in range(1, int(3400 / (1.1 * pitch_hz)) + 1):
        frequency = harmonic * pitch_hz
        strength = sum(np.exp(-(((frequency - formant) / 250) ** 2)) for formant in formants)
        wave_form += (0.05 + strength) * np.sin(harmonic * phase)
    wave_form *= np.sin(np.pi * 4 * t) ** 2
    return _at_level(wave_form / max(1e-9, np.abs(wave_form).max(initial=0)), level)


def write_wav(path: Path, left: Pcm | bytes, right: Pcm | bytes | None = None) -> None:
    """Write 16-bit WAV at 8 kHz: mono, or stereo when `right` is given.

    `bytes` are µ-law, arrays are linear. The shorter channel ends in silence.
    """
    channels = [_linear(audio) for audio in (left, right) if audio is not None]
    samples = np.zeros((max(map(len, channels)), len(channels)), dtype="<i2")
    for column, channel in enumerate(channels):
        samples[: len(channel), column] = channel
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(samples.tobytes())


def _linear(audio: Pcm | bytes) -> Pcm:
    return decode(audio) if isinstance(audio, bytes) else audio


def _samples(seconds: float) -> int:
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"a length of {seconds} s must be 0 or more")
    return round(seconds * RATE_HZ)


def _times(seconds: float) -> NDArray[np.float64]:
    return np.arange(_samples(seconds)) / RATE_HZ


def _at_level(wave_form: NDArray[np.float64], level: float) -> bytes:
    """Encode a wave within ±1, its peak at `level`."""
    if not 0 <= level <= 1:
        raise ValueError(f"a level of {level} must be from 0 to 1")
    return encode(np.round(wave_form * (level * 32767)).astype(np.int16))
