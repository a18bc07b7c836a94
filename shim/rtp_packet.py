"""RTP packets as RFC 3550 section 5.1 writes them: bytes in, fields out, and back."""

import struct
from typing import Final, NamedTuple

HEADER: Final = struct.Struct("!BBHII")
"""Flags, marker and payload type, sequence number, timestamp, SSRC: 12 bytes."""

FRAME: Final = struct.Struct("!HHII160s")
"""A packet with one frame: flags with marker and type as one number, then as `HEADER`."""

VERSION: Final = 2
PLAIN_FLAGS: Final = VERSION << 6
"""The first byte of a packet without padding, extension and contributing sources."""


class RtpError(ValueError):
    """A datagram that is no RTP packet; the text says what is wrong with it."""


class RtpPacket(NamedTuple):
    """One parsed packet. `timestamp` counts samples, `payload` has padding removed."""

    marker: bool
    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


def parse(datagram: bytes) -> RtpPacket:
    """Parse one datagram (RFC 3550 sections 5.1 and 5.3.1).

    CSRC entries and the header extension are skipped, padding is cut off.

    Raises:
        RtpError: too short for what its header announces, or of another version.
    """
    size = len(datagram)
    if size < HEADER.size:
        raise RtpError(f"{size} bytes are less than an RTP header")
    flags, kind, sequence, timestamp, ssrc = HEADER.unpack_from(datagram)
    if flags >> 6 != VERSION:
        raise RtpError(f"version {flags >> 6} instead of 2")
    start = _payload_start(datagram, flags)
    end = size - _padding(datagram, start) if flags & 0x20 else size
    return RtpPacket(bool(kind & 0x80), kind & 0x7F, sequence, timestamp, ssrc, datagram[start:end])


def _payload_start(datagram: bytes, flags: int) -> int:
    """Where the payload begins, behind CSRC entries and extension."""
    start = HEADER.size + 4 * (flags & 0x0F)
    if flags & 0x10:
        if len(datagram) < start + 4:
            raise RtpError("the header extension is cut off")
        start += 4 + 4 * int.from_bytes(datagram[start + 2 : start + 4], "big")
    if len(datagram) < start:
        raise RtpError(f"{len(datagram)} bytes are less than the header's {start}")
    return start


def _padding(datagram: bytes, start: int) -> int:
    """The number of padding bytes, which the packet's last byte gives."""
    padding = datagram[-1]
    if not 0 < padding <= len(datagram) - start:
        raise RtpError(f"padding of {padding} bytes in a payload of {len(datagram) - start}")
    return padding


def build(
    sequence: int, timestamp: int, ssrc: int, payload: bytes, *, marker: bool = False
) -> bytes:
    """Build a PCMU packet (payload type 0) without CSRC, extension and padding."""
    kind = 0x80 if marker else 0
    return HEADER.pack(PLAIN_FLAGS, kind, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc) + payload
