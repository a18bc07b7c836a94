"""A phone's RTP without its sockets: packets read and written, what is said and what is heard.

Pure. PCMU/8000 in 20 ms packets (RFC 3550, RFC 3551) and telephone-events (RFC 4733). The shim has
an RTP parser of its own: what measures it must not share its mistakes.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, insort
from collections import deque

from loadtest.audio import FRAME_BYTES, SILENCE_BYTE, SILENT_FRAME
from loadtest.recording import PCMU, ReceivedPacket

RTP_VERSION = 2
RTP_HEADER = struct.Struct("!BBHII")
PADDING, EXTENSION, CSRC_COUNT, MARKER = 0x20, 0x10, 0x0F, 0x80

EVENT_CODES = {digit: code for code, digit in enumerate("0123456789*#ABCD")}  # RFC 4733 section 3.2
EVENT_FRAMES = 8  # 160 ms, well above the 40 ms of ITU-T Q.24's shortest key press
EVENT_PAUSE_FRAMES = 5  # between two key presses
EVENT_VOLUME = 10  # -10 dBm0
EVENT_END = 0x80


def parse_rtp(data: bytes, at_ns: int) -> ReceivedPacket | None:
    """Read an RTP packet (RFC 3550 section 5.1); None if the datagram is none."""
    if len(data) < RTP_HEADER.size:
        return None
    flags, marked_type, sequence, timestamp, ssrc = RTP_HEADER.unpack_from(data)
    start = RTP_HEADER.size + 4 * (flags & CSRC_COUNT)
    if flags & EXTENSION:
        if len(data) < start + 4:
            return None
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4], "big")
    padding = data[-1] if flags & PADDING else 0
    end = len(data) - padding
    if flags >> 6 != RTP_VERSION or end < start or (flags & PADDING and not padding):
        return None
    return ReceivedPacket(at_ns, sequence, timestamp, ssrc, marked_type & 0x7F, data[start:end])


def telephone_event(digit: str) -> list[tuple[bool, bytes]]:
    """The packets of one key press, one per ptime, as (marker, payload) (RFC 4733 section 2.5).

    The duration grows from packet to packet; the last is sent three times, with the end bit.
    ValueError unless the digit is one of 0-9, *, #, A-D.
    """
    code = EVENT_CODES.get(digit)
    if code is None:
        raise ValueError(f"digit {digit!r} must be one of {' '.join(EVENT_CODES)}")
    durations = range(FRAME_BYTES, EVENT_FRAMES * FRAME_BYTES + 1, FRAME_BYTES)
    pressed = [struct.pack("!BBH", code, EVENT_VOLUME, duration) for duration in durations]
    released = struct.pack("!BBH", code, EVENT_END | EVENT_VOLUME, durations[-1])
    packets = pressed + [released] * 3
    return [(index == 0, payload) for index, payload in enumerate(packets)]


class Mouth:
    """What a call says: one packet per ptime, of audio, of a key press, or of silence.

    SSRC and first sequence number and timestamp should be random (RFC 3550 section 5.1). `said` is
    the audio so far, from the first packet on, if it is to be kept.
    """

    def __init__(self, ssrc: int, sequence: int, timestamp: int, keep: bool = True) -> None:
        self.said = bytearray()
        self.event_type: int | None = None
        self._ssrc, self._sequence, self._timestamp = ssrc, sequence, timestamp
        self._keep = keep
        self._started = False
        self._audio, self._at, self._loop = b"", 0, False
        self._frame = 0
        self._digits: list[tuple[int, str]] = []
        self._events: deque[tuple[bool, bytes] | None] = deque()  # None: a pause
        self._event_timestamp = timestamp

    def play(self, audio: bytes, loop: bool = False) -> None:
        """Say this µ-law audio from the next packet on, in place of what was being said."""
        self._audio, self._at, self._loop = audio, 0, loop

    def press(self, digit: str, at_frame: int = 0) -> None:
        """Send a key press, not before this packet of the call; by default as soon as possible.

        Key presses follow each other with a pause; those for the same time keep their order.
        """
        telephone_event(digit)  # refuse a bad digit here, where its giver can see it
        press = (max(at_frame, self._frame), digit)
        insort(self._digits, press, key=lambda waiting: waiting[0])

    def next_packet(self, missed: int = 0) -> bytes:
        """The packet for the next ptime, after `missed` ones whose time passed unused."""
        for _ in range(missed):
            self._next_audio()
        if missed and self._keep:
            self.said += SILENT_FRAME * missed
        self._frame += missed
        self._timestamp += FRAME_BYTES * missed
        audio, event = self._next_audio(), self._next_event()
        marked = not self._started
        packet_type, timestamp, payload = PCMU, self._timestamp, audio
        if event is not None and self.event_type is not None:
            marked, payload = event
            packet_type, timestamp, audio = self.event_type, self._event_timestamp, SILENT_FRAME
        if self._keep:
            self.said += audio
        header = self._header(packet_type | (MARKER if marked else 0), timestamp)
        self._started = True
        self._frame += 1
        self._sequence += 1
        self._timestamp += FRAME_BYTES
        return header + payload

    def _header(self, marked_type: int, timestamp: int) -> bytes:
        sequence, timestamp = self._sequence & 0xFFFF, timestamp & 0xFFFFFFFF
        return RTP_HEADER.pack(RTP_VERSION << 6, marked_type, sequence, timestamp, self._ssrc)

    def _next_audio(self) -> bytes:
        audio = self._audio
        if not audio:
            return SILENT_FRAME
        frame = audio[self._at : self._at + FRAME_BYTES]
        self._at += FRAME_BYTES
        if len(frame) == FRAME_BYTES:
            return frame
        if self._loop:
            self._at %= len(audio)
            return (frame + audio * (FRAME_BYTES // len(audio) + 1))[:FRAME_BYTES]
        self._audio = b""
        return frame.ljust(FRAME_BYTES, SILENCE_BYTE)

    def _next_event(self) -> tuple[bool, bytes] | None:
        if not self._events and self._digits and self._digits[0][0] <= self._frame:
            _, digit = self._digits.pop(0)
            self._events.extend(telephone_event(digit))
            self._events.extend([None] * EVENT_PAUSE_FRAMES)
            self._event_timestamp = self._timestamp  # all packets of an event carry its beginning
        return self._events.popleft() if self._events else None


class Ear:
    """What a call hears. `packets` stays empty unless they are to be kept."""

    def __init__(self, keep: bool = True) -> None:
        self.packets: list[ReceivedPacket] = []
        self.received = 0
        self.stray = 0
        self.longest_gap_ns = 0
        self._keep = keep
        self._latest_ns: int | None = None

    def hear(self, data: bytes, at_ns: int) -> None:
        """Take one datagram from the far end."""
        packet = parse_rtp(data, at_ns)
        if packet is None:
            self.stray += 1
            return
        self.received += 1
        if self._latest_ns is not None:
            self.longest_gap_ns = max(self.longest_gap_ns, at_ns - self._latest_ns)
        self._latest_ns = at_ns
        if self._keep:
            self.packets.append(packet)

    def heard_since(self, at_ns: int) -> list[ReceivedPacket]:
        """The kept packets that arrived at `at_ns` or later."""
        return self.packets[bisect_left(self.packets, at_ns, key=lambda packet: packet.at_ns) :]
