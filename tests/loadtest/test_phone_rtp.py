"""What the phone says and hears, packet by packet."""

import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.audio import FRAME_BYTES, SILENT_FRAME, tone
from loadtest.phone_rtp import Ear, Mouth, parse_rtp, telephone_event
from loadtest.recording import ReceivedPacket

HEADER = struct.Struct("!BBHII")


def said(mouth: Mouth, missed: int = 0) -> ReceivedPacket:
    """The mouth's next packet, read."""
    packet = parse_rtp(mouth.next_packet(missed), 0)
    assert packet is not None
    return packet


def packet(sequence: int, flags: int = 0x80, rest: bytes = b"audio") -> bytes:
    """An RTP packet with these flags, and all that follows the 12 bytes."""
    return HEADER.pack(flags, 0x80 | 101, sequence, 2**32 - 1, 77) + rest


def test_parse_reads_the_header() -> None:
    """The marker is no part of the payload type."""
    assert parse_rtp(packet(9), 5) == ReceivedPacket(5, 9, 2**32 - 1, 77, 101, b"audio")


@pytest.mark.parametrize(
    ("flags", "rest"),
    [
        (0x82, b"CSRCCSRCaudio"),
        (0x90, b"\x12\x34\x00\x01ext.audio"),
        (0xA0, b"audio\x00\x00\x03"),
        (0xB1, b"CSRC\x12\x34\x00\x00audio\x01"),
    ],
)
def test_parse_finds_the_payload(flags: int, rest: bytes) -> None:
    """Behind CSRCs and extension, before padding."""
    read = parse_rtp(packet(1, flags, rest), 0)
    assert read is not None
    assert read.payload == b"audio"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        packet(1)[:11],
        packet(1, 0x40),
        packet(1, 0x8F, b"short"),
        packet(1, 0x90, b"\x12\x34\x00"),
        packet(1, 0x90, b"\x12\x34\x00\x09ext."),
        packet(1, 0xA0, b"audio\x00"),
        packet(1, 0xA0, b"\xff"),
    ],
)
def test_parse_refuses_what_is_no_rtp(data: bytes) -> None:
    """Too short, another version, or lengths that lead out of the packet."""
    assert parse_rtp(data, 0) is None


@given(st.binary(max_size=40))
def test_parse_survives_anything(data: bytes) -> None:
    """A packet or None, and never more payload than there are bytes."""
    read = parse_rtp(data, 0)
    assert read is None or len(read.payload) <= len(data) - 12


def test_mouth_counts_over_the_wrap() -> None:
    """Sequence by one, timestamp by 160, marker on the first packet only."""
    mouth = Mouth(ssrc=7, sequence=65_535, timestamp=2**32 - 160)
    raw = [mouth.next_packet() for _ in range(3)]
    headers = [HEADER.unpack_from(data) for data in raw]
    assert headers == [
        (0x80, 0x80, 65_535, 2**32 - 160, 7),
        (0x80, 0x00, 0, 0, 7),
        (0x80, 0x00, 1, 160, 7),
    ]
    assert all(data[12:] == SILENT_FRAME for data in raw)


def test_mouth_pads_its_last_frame() -> None:
    """Audio, then silence; `said` is what went out."""
    mouth = Mouth(1, 0, 0)
    mouth.play(b"a" * 200)
    frames = [said(mouth).payload for _ in range(3)]
    assert frames == [b"a" * 160, b"a" * 40 + b"\xff" * 120, SILENT_FRAME]
    assert bytes(mouth.said) == b"".join(frames)


@pytest.mark.parametrize("length", [1, 100, 160, 161, 500])
def test_mouth_loops_without_a_seam(length: int) -> None:
    """A loop of any length, even below a frame, goes on as if it were endless."""
    audio = bytes(index % 251 for index in range(length))
    mouth = Mouth(1, 0, 0)
    mouth.play(audio, loop=True)
    sound = b"".join(said(mouth).payload for _ in range(20))
    assert sound == (audio * (1 + 20 * FRAME_BYTES // length))[: 20 * FRAME_BYTES]


def test_mouth_plays_new_audio_at_once() -> None:
    """What was being said is dropped, its loop too."""
    mouth = Mouth(1, 0, 0)
    mouth.play(tone(440, 1.0), loop=True)
    said(mouth)
    mouth.play(b"b" * 160)
    assert [said(mouth).payload for _ in range(2)] == [b"b" * 160, SILENT_FRAME]


def test_mouth_skips_what_it_missed() -> None:
    """Time passes in timestamps and audio; the sequence has no hole; nothing was said meanwhile."""
    mouth = Mouth(1, 0, 0)
    mouth.play(b"".join(bytes([number]) * FRAME_BYTES for number in range(9)))
    first, later = said(mouth), said(mouth, missed=5)
    assert (later.sequence - first.sequence, later.timestamp - first.timestamp) == (1, 6 * 160)
    assert later.payload == bytes([6]) * FRAME_BYTES
    assert bytes(mouth.said) == first.payload + SILENT_FRAME * 5 + later.payload


def test_telephone_event_grows_and_ends_three_times() -> None:
    """160 ms in steps of 20 ms, the marker on the first, the end bit on three equal last ones."""
    packets = telephone_event("#")
    assert [marker for marker, _ in packets] == [True] + [False] * 10
    read = [struct.unpack("!BBH", payload) for _, payload in packets]
    assert read[:8] == [(11, 10, 160 * number) for number in range(1, 9)]
    assert read[8:] == [(11, 0x80 | 10, 1280)] * 3


@pytest.mark.parametrize("digit", ["", "12", "e", "E"])
def test_a_key_that_is_none_is_refused(digit: str) -> None:
    """The error names it and those there are."""
    complaint = f"digit {digit!r} must be one of 0 1 2 3 4 5 6 7 8 9 * # A B C D"
    with pytest.raises(ValueError, match=re.escape(complaint)):
        Mouth(1, 0, 0).press(digit)


def test_mouth_presses_keys_at_their_time() -> None:
    """In order of their times, with a pause between them, and audio running on underneath."""
    mouth = Mouth(1, 0, 1000)
    mouth.event_type = 96
    mouth.press("2", at_frame=4)
    mouth.press("1", at_frame=2)
    packets = [said(mouth) for _ in range(40)]
    types = [p.payload_type for p in packets]
    assert types == [0] * 2 + [96] * 11 + [0] * 5 + [96] * 11 + [0] * 11
    assert {p.timestamp for p in packets[2:13]} == {1000 + 2 * 160}
    assert packets[13].timestamp == 1000 + 13 * 160
    assert [packets[2].payload[0], packets[18].payload[0]] == [1, 2]
    assert [p.sequence for p in packets] == list(range(40))


def test_ear_counts_and_keeps() -> None:
    """Packets in order of arrival, the longest gap, and what was no RTP."""
    ear = Ear()
    for number, at_ns in enumerate((100, 120, 190, 210)):
        ear.hear(packet(number), at_ns)
    ear.hear(b"no RTP", 230)
    assert (ear.received, ear.stray, ear.longest_gap_ns) == (4, 1, 70)
    assert [p.sequence for p in ear.heard_since(120)] == [1, 2, 3]
    assert ear.heard_since(211) == []


def test_ear_that_keeps_nothing_counts_all_the_same() -> None:
    """For load tests of any length."""
    ear = Ear(keep=False)
    ear.hear(packet(1), 100)
    ear.hear(packet(2), 130)
    assert (ear.received, ear.longest_gap_ns, ear.packets) == (2, 30, [])
