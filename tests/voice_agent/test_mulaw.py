"""G.711 µ-law on literal values of the standard."""

import pytest

from voice_agent.mulaw import DECODED, decode, encode, encode_sample, silence


@pytest.mark.parametrize(
    ("code", "sample"),
    [(0xFF, 0), (0x7F, 0), (0x80, 32124), (0x00, -32124), (0xFE, 8), (0xF0, 120), (0xEF, 132)],
)
def test_bytes_stand_for_the_values_of_g711(code: int, sample: int) -> None:
    """ITU-T G.711 table 2a, scaled from 14 to 16 bits."""
    assert DECODED[code] == sample


def test_every_byte_survives_decoding_and_encoding() -> None:
    """All but negative zero, which becomes positive zero."""
    for code in range(256):
        assert encode_sample(DECODED[code]) == (0xFF if code == 0x7F else code)


@pytest.mark.parametrize(
    ("sample", "code"), [(0, 0xFF), (-1, 0x7F), (32767, 0x80), (-32768, 0x00), (99999, 0x80)]
)
def test_edges_of_the_range(sample: int, code: int) -> None:
    """Silence is 0xFF, and what is too loud is clipped."""
    assert encode_sample(sample) == code


def test_encoding_stays_within_half_a_step() -> None:
    """A step is at most 1/16 of the value it lies at, counted with the bias of 132."""
    for sample in range(-32000, 32001, 7):
        [heard] = decode(encode([sample]))
        assert abs(heard - sample) <= (abs(sample) + 132) / 32


def test_silence_is_as_long_as_asked() -> None:
    """8 bytes per ms of 0xFF."""
    assert silence(20) == b"\xff" * 160
