"""The caller's RTP stream: which packets are new, in order, and when they were spoken.

Pure: datagrams and the arrival time go in, payloads and media times come out. A packet that
is just the next one of its stream takes the short way; everything else is parsed and judged
in the spirit of RFC 3550 appendix A.1. There is no reordering buffer: it would cost every
call latency, and a packet that comes late counts as lost to a listener anyhow.

While a caller presses a key, the phone sends telephone-events (RFC 4733) in place of audio.
Asterisk keeps them for itself, so their sequence numbers are missing here: that is no loss.
"""

from typing import Final

import msgspec

from shim import pcmu
from shim.rtp_packet import HEADER, PLAIN_FLAGS, RtpError, RtpPacket, parse

MAX_DROPOUT: Final = 3000
"""RFC 3550 A.1: a jump ahead of this many packets is loss, a longer one a restarted source."""
MAX_MISORDER: Final = 100
"""RFC 3550 A.1: a packet this far behind is late, one further behind a restarted source."""
CLOCK_TOLERANCE_MS: Final = 2000
"""A timestamp this far off the arrival clock was set anew by its sender."""
KEY_WINDOW_NS: Final = 1_000_000_000
"""A gap this close to a key press is the key's. Asterisk was seen to tell of the key 60 ms before
the gap's end, and the news comes by another way than the audio."""

KEY_PACKETS: Final = 4
"""The shortest key press: one packet at least, and the end three times (RFC 4733 2.5.1.4)."""

_HEADER_BYTES: Final = HEADER.size
_PAYLOAD_TYPE: Final = pcmu.PAYLOAD_TYPE
_BYTES_PER_MS: Final = pcmu.BYTES_PER_MS
_NS_PER_SAMPLE: Final = 1_000_000 // _BYTES_PER_MS
_SEQUENCES: Final = 1 << 16
_TIMESTAMPS: Final = 1 << 32


class InboundCounts(msgspec.Struct):
    """What arrived on a call's port, counted in packets."""

    received: int = 0
    lost: int = 0
    late: int = 0
    duplicate: int = 0
    malformed: int = 0
    other_payload_type: int = 0
    restarts: int = 0


class Gap(msgspec.Struct, frozen=True):
    """A gap in the sequence numbers that may be a key press: when it ended, its packets, and what
    the longest gap was before it."""

    at_ns: int
    packets: int
    longest_before_ns: int


class InboundStream:
    """Follows one call's inbound packets.

    Args:
        start_ns: the monotonic time at which the media time is 0 ms.

    `timestamp_ms` is the media time of the payload that `accept` returned last. It follows
    the RTP clock, so that a gap in what the caller sent shows as a gap in the timestamps.
    `jitter_ns` is the interarrival jitter of RFC 3550 section 6.4.1; it is at least as coarse as
    the passes in which sockets are read. `longest_gap_ns`: for so long nothing came while something
    should have; what a phone leaves out by its own will, as silence, is no gap.
    """

    __slots__ = (
        "_due_ns",
        "_gap",
        "_key_ns",
        "_media_ms",
        "_missing",
        "_next_sequence",
        "_next_timestamp",
        "_restart_at",
        "_ssrc",
        "_start_ns",
        "counts",
        "jitter_ns",
        "longest_gap_ns",
        "timestamp_ms",
    )

    def __init__(self, start_ns: int) -> None:
        self._start_ns = start_ns
        self._media_ms = 0.0
        self._ssrc = -1
        self._next_sequence = 0
        self._next_timestamp = 0
        self._missing: set[int] = set()
        self._restart_at = -1
        self._gap: Gap | None = None
        self._key_ns: int | None = None
        self.timestamp_ms = 0
        self.counts = InboundCounts()
        self._due_ns = start_ns
        self.jitter_ns = 0
        self.longest_gap_ns = 0

    def press_key(self, now_ns: int) -> None:
        """The caller has pressed a key: a gap about now is the key's, and no loss."""
        gap, self._gap = self._gap, None
        if gap is None or now_ns - gap.at_ns > KEY_WINDOW_NS:
            self._key_ns = now_ns
            return
        self.counts.lost -= gap.packets
        self.longest_gap_ns = gap.longest_before_ns
        self._missing.clear()

    def silent_ns(self, now_ns: int) -> int:
        """For how long no packet has come when one was due; before the first: since the start."""
        return max(0, now_ns - self._due_ns)

    def accept(self, datagram: bytes, now_ns: int) -> bytes | None:
        """Take a datagram that arrived at `now_ns` (monotonic).

        Returns the µ-law audio to pass on, or None for a packet that is dropped (and counted).
        """
        if len(datagram) > _HEADER_BYTES:
            flags, kind, sequence, timestamp, ssrc = HEADER.unpack_from(datagram)
            if (
                sequence == self._next_sequence
                and timestamp == self._next_timestamp
                and ssrc == self._ssrc
                and flags == PLAIN_FLAGS
                and kind == _PAYLOAD_TYPE
            ):
                samples = len(datagram) - _HEADER_BYTES
                late_ns = now_ns - self._due_ns
                self._due_ns = now_ns + samples * _NS_PER_SAMPLE
                if late_ns > self.longest_gap_ns:
                    self.longest_gap_ns = late_ns
                self.jitter_ns += (abs(late_ns) - self.jitter_ns) >> 4
                self.timestamp_ms = int(self._media_ms)
                self._media_ms += samples / _BYTES_PER_MS
                self._next_sequence = sequence + 1 & 0xFFFF
                self._next_timestamp = timestamp + samples & 0xFFFFFFFF
                self.counts.received += 1
                return datagram[_HEADER_BYTES:]
        return self._judge(datagram, now_ns)

    def _deliver(self, sequence: int, timestamp: int, payload: bytes) -> bytes:
        samples = len(payload)
        self.timestamp_ms = int(self._media_ms)
        self._media_ms += samples / _BYTES_PER_MS
        self._next_sequence = (sequence + 1) % _SEQUENCES
        self._next_timestamp = (timestamp + samples) % _TIMESTAMPS
        return payload

    def _judge(self, datagram: bytes, now_ns: int) -> bytes | None:
        """The long way: anything but the plain next packet of the stream."""
        try:
            packet = parse(datagram)
        except RtpError:
            self.counts.malformed += 1
            return None
        if packet.payload_type != pcmu.PAYLOAD_TYPE:
            self.counts.other_payload_type += 1
            if packet.ssrc == self._ssrc and packet.sequence == self._next_sequence:
                self._next_sequence = (packet.sequence + 1) % _SEQUENCES
            return None
        self.counts.received += 1
        if packet.ssrc != self._ssrc:
            return self._start(packet, now_ns)
        ahead = (packet.sequence - self._next_sequence) % _SEQUENCES
        if ahead < MAX_DROPOUT:
            silent_ns = self._note_arrival(packet, now_ns)
            if ahead and not self._is_of_key(ahead, now_ns):
                self._note_gap(ahead, silent_ns, now_ns)
                self._note_missing(ahead)
        elif ahead >= _SEQUENCES - MAX_MISORDER:
            self._count_old(packet.sequence)
            return None
        elif packet.sequence == self._restart_at:
            return self._start(packet, now_ns)
        else:
            # One stray packet is no reason to leave the stream; a second in its row is.
            self._restart_at = (packet.sequence + 1) % _SEQUENCES
            return None
        self._follow_clock(packet.timestamp, now_ns)
        return self._deliver(packet.sequence, packet.timestamp, packet.payload)

    def _start(self, packet: RtpPacket, now_ns: int) -> bytes:
        """The first packet of a source: its media time is its time of arrival."""
        if self._ssrc != -1:
            self.counts.restarts += 1
        self._ssrc = packet.ssrc
        self._missing.clear()
        self._restart_at = -1
        self._media_ms = max(self._arrival_ms(now_ns), self._media_ms)
        self._gap = None
        self._due_ns = now_ns + len(packet.payload) * _NS_PER_SAMPLE
        return self._deliver(packet.sequence, packet.timestamp, packet.payload)

    def _note_arrival(self, packet: RtpPacket, now_ns: int) -> int:
        """As `accept` does, for any packet; returns for how long nothing had come, in ns."""
        skipped = (packet.timestamp - self._next_timestamp) % _TIMESTAMPS
        if skipped >= _TIMESTAMPS // 2:
            skipped -= _TIMESTAMPS
        silent_ns = now_ns - self._due_ns
        late_ns = silent_ns - skipped * _NS_PER_SAMPLE
        self._due_ns = now_ns + len(packet.payload) * _NS_PER_SAMPLE
        if abs(late_ns) < CLOCK_TOLERANCE_MS * 1_000_000:  # else the sender's clock was set anew
            self.jitter_ns += (abs(late_ns) - self.jitter_ns) >> 4
            self.longest_gap_ns = max(self.longest_gap_ns, late_ns)
        return silent_ns

    def _is_of_key(self, packets: int, now_ns: int) -> bool:
        """Whether the packets that are missing belong to a key press of which we know already."""
        key_ns = self._key_ns
        if key_ns is None or packets < KEY_PACKETS:
            return False
        self._key_ns = None
        return now_ns - key_ns <= KEY_WINDOW_NS

    def _note_gap(self, packets: int, silent_ns: int, now_ns: int) -> None:
        if packets >= KEY_PACKETS:
            self._gap = Gap(now_ns, packets, self.longest_gap_ns)
        self.longest_gap_ns = max(self.longest_gap_ns, silent_ns)

    def _note_missing(self, ahead: int) -> None:
        self.counts.lost += ahead
        recent = min(ahead, MAX_MISORDER)
        first = self._next_sequence + ahead - recent
        self._missing.update(sequence % _SEQUENCES for sequence in range(first, first + recent))
        if len(self._missing) > MAX_MISORDER:
            self._missing = {
                sequence
                for sequence in self._missing
                if (self._next_sequence + ahead - sequence) % _SEQUENCES <= MAX_MISORDER
            }

    def _count_old(self, sequence: int) -> None:
        if sequence in self._missing:
            self._missing.remove(sequence)
            self.counts.lost -= 1
            self.counts.late += 1
        else:
            self.counts.duplicate += 1

    def _follow_clock(self, timestamp: int, now_ns: int) -> None:
        """Move the media time to where the RTP timestamp says, unless that clock was set anew."""
        samples = (timestamp - self._next_timestamp) % _TIMESTAMPS
        media_ms = self._media_ms + samples / _BYTES_PER_MS
        arrival_ms = self._arrival_ms(now_ns)
        if abs(media_ms - arrival_ms) > CLOCK_TOLERANCE_MS:
            media_ms = max(arrival_ms, self._media_ms)
        self._media_ms = media_ms

    def _arrival_ms(self, now_ns: int) -> float:
        return (now_ns - self._start_ns) / 1e6
