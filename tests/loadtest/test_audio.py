"""G.711, tones and WAV files."""

import wave
from pathlib import Path

import numpy as np
import pytest

from loadtest.audio import decode, encode, silence, speech_burst, tone, write_wav

# ITU-T G.711 table 2a/2b, decision values on the 14-bit scale times 4: code, 16-bit value.
G711_POINTS = {
    0xFF: 0,
    0xFE: 8,
    0xEF: 132,
    0xDF: 396,
    0xCF: 924,
    0xBF: 1980,
    0xAF: 4092,
    0x9F: 8316,
    0x8F: 16764,
    0x80: 32124,
}


def test_decode_matches_the_standards_points() -> None:
    """The first value of every segment, and the last of all; negative ones have bit 7 clear."""
    for code, value in G711_POINTS.items():
        assert decode(bytes([code]))[0] == value
        assert decode(bytes([code & 0x7F]))[0] == -value


def test_every_code_survives_decoding_and_encoding() -> None:
    """Except negative zero, which comes back as the positive one."""
    codes = bytes(range(256))
    assert encode(decode(codes)) == codes.replace(b"\x7f", b"\xff")


def test_encode_is_exact_to_half_a_step() -> None:
    """Steps are a sixteenth of the segment's start: every sample's error is at most 1/32 of it."""
    samples = np.arange(-32635, 32636).astype(np.int16)
    error = np.abs(decode(encode(samples)).astype(np.int32) - samples)
    assert (error <= (np.abs(samples.astype(np.int32)) + 132) / 32).all()


def test_encode_clips_what_is_too_loud() -> None:
    """The extremes of 16 bits become the loudest codes."""
    assert encode(np.array([32767, -32768], dtype=np.int16)) == b"\x80\x00"


def test_silence_is_positive_zero() -> None:
    """20 ms are 160 bytes of 0xFF."""
    assert silence(0.02) == b"\xff" * 160


def test_tone_has_its_length_level_and_frequency() -> None:
    """Peak and zero crossings are those of the sine that was asked for."""
    pcm = decode(tone(400, 1.0, level=0.5)).astype(np.int32)
    assert len(pcm) == 8000
    assert abs(int(np.abs(pcm).max()) - 16384) < 16384 * 0.04
    signs = np.sign(pcm[pcm != 0])
    assert abs(np.count_nonzero(np.diff(signs)) - 800) <= 1


@pytest.mark.parametrize(
    ("frequency_hz", "seconds", "level", "complaint"),
    [
        (0, 1, 0.5, "a tone of 0 Hz must be above 0"),
        (4000, 1, 0.5, "below 4000 Hz"),
        (440, -1, 0.5, "a length of -1 s"),
        (440, 1, 1.5, "a level of 1.5 must be from 0 to 1"),
    ],
)
def test_tone_refuses(frequency_hz: float, seconds: float, level: float, complaint: str) -> None:
    """The error names the value and what is allowed."""
    with pytest.raises(ValueError, match=complaint):
        tone(frequency_hz, seconds, level)


def test_speech_burst_is_loud_modulated_and_repeatable() -> None:
    """It comes and goes four times a second, and is the same each time."""
    audio = speech_burst(1.0)
    assert audio == speech_burst(1.0)
    rms = np.sqrt(np.mean(decode(audio).astype(float).reshape(-1, 80) ** 2, axis=1))
    loud = rms > 0.25 * rms.max()
    assert rms.max() > 3000
    assert np.count_nonzero(np.diff(loud.astype(int)) == 1) == 4
    assert speech_burst(0.0) == b""


def test_write_wav_in_mono(tmp_path: Path) -> None:
    """µ-law goes in, linear 16-bit at 8 kHz is in the file."""
    path = tmp_path / "mono.wav"
    write_wav(path, tone(440, 0.1))
    with wave.open(str(path)) as file:
        assert file.getparams()[:4] == (1, 2, 8000, 800)
        assert file.readframes(800) == decode(tone(440, 0.1)).astype("<i2").tobytes()


def test_write_wav_in_stereo(tmp_path: Path) -> None:
    """Linear and µ-law side by side; the shorter one ends in silence."""
    path = tmp_path / "stereo.wav"
    left = np.array([1, 2, 3], dtype=np.int16)
    write_wav(path, left, b"\x80")
    with wave.open(str(path)) as file:
        assert file.getparams()[:4] == (2, 2, 8000, 3)
        frames = np.frombuffer(file.readframes(3), dtype="<i2").reshape(-1, 2)
    assert frames.tolist() == [[1, 32124], [2, 0], [3, 0]]
