"""RTP parsing against packets written out byte by byte from RFC 3550."""

import pytest

from shim.rtp_packet import RtpError, RtpPacket, build, parse

HEADER = bytes.fromhex("8000 1234 00010203 cafe0001")


def test_plain_packet() -> None:
    """Twelve bytes of header in network order, and the rest is payload."""
    assert parse(HEADER + b"audio") == RtpPacket(
        marker=False,
        payload_type=0,
        sequence=0x1234,
        timestamp=0x00010203,
        ssrc=0xCAFE0001,
        payload=b"audio",
    )


def test_marker_and_payload_type_share_a_byte() -> None:
    """The highest bit is the marker, the other seven are the payload type."""
    packet = parse(b"\x80\xe5" + HEADER[2:])
    assert (packet.marker, packet.payload_type, packet.payload) == (True, 101, b"")


@pytest.mark.parametrize("count", [1, 15])
def test_contributing_sources_are_skipped(count: int) -> None:
    """CC says how many 32 bit words lie between header and payload."""
    datagram = bytes([0x80 | count]) + HEADER[1:] + b"csrc" * count + b"audio"
    assert parse(datagram).payload == b"audio"


def test_extension_is_skipped() -> None:
    """An extension has a word of its own and as many as its second half says."""
    datagram = b"\x90" + HEADER[1:] + bytes.fromhex("bede 0002") + b"extended" + b"audio"
    assert parse(datagram).payload == b"audio"


def test_extension_of_no_words() -> None:
    """RFC 3550 section 5.3.1: zero is a valid length."""
    assert parse(b"\x90" + HEADER[1:] + bytes.fromhex("bede 0000") + b"audio").payload == b"audio"


def test_padding_is_cut_off() -> None:
    """The last byte says how many bytes at the end are padding, itself included."""
    assert parse(b"\xa0" + HEADER[1:] + b"audio" + b"\0\0\3").payload == b"audio"


def test_packet_of_padding_alone() -> None:
    """Padding may fill the payload, but not more."""
    assert parse(b"\xa0" + HEADER[1:] + b"\0\0\0\4").payload == b""


def test_sources_extension_and_padding_together() -> None:
    """All three in one packet."""
    datagram = b"\xb1" + HEADER[1:] + b"csrc" + bytes.fromhex("bede 0001") + b"wordaudio" + b"\1"
    assert parse(datagram).payload == b"audio"


@pytest.mark.parametrize(
    ("datagram", "why"),
    [
        (b"", "0 bytes are less than an RTP header"),
        (HEADER[:11], "11 bytes are less than an RTP header"),
        (b"\x40" + HEADER[1:], "version 1 instead of 2"),
        (b"\x00" + HEADER[1:], "version 0 instead of 2"),
        (b"\xc0" + HEADER[1:], "version 3 instead of 2"),
        (b"\x8f" + HEADER[1:] + b"csrc" * 14, "68 bytes are less than the header's 72"),
        (b"\x90" + HEADER[1:] + b"\xbe\xde\x00", "the header extension is cut off"),
        (b"\x90" + HEADER[1:] + b"\xbe\xde\xff\xff", "16 bytes are less than the header's 262156"),
        (b"\xa0" + HEADER[1:] + b"audio\0", "padding of 0 bytes in a payload of 6"),
        (b"\xa0" + HEADER[1:] + b"audio\7", "padding of 7 bytes in a payload of 6"),
        (b"\xa0" + HEADER[1:], "padding of 1 bytes in a payload of 0"),
    ],
)
def test_malformed(datagram: bytes, why: str) -> None:
    """Row 25: what is no RTP is refused, and the error says why."""
    with pytest.raises(RtpError, match=why):
        parse(datagram)


def test_build_writes_what_the_rfc_says() -> None:
    """Version 2, no padding, no extension, no sources; payload type 0; network order."""
    assert build(0x1234, 0x00010203, 0xCAFE0001, b"audio") == HEADER + b"audio"
    assert build(0x1234, 0x00010203, 0xCAFE0001, b"", marker=True)[1] == 0x80


def test_build_wraps_its_counters() -> None:
    """Sequence numbers have 16 bits, timestamps 32."""
    packet = parse(build(65536 + 5, (1 << 32) + 160, 1, b""))
    assert (packet.sequence, packet.timestamp) == (5, 160)
