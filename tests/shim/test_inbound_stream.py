"""The caller's stream: literal packets and arrival times."""

from shim import rtp_packet
from shim.inbound_stream import InboundCounts, InboundStream
from tests.shim.samples import frame, rtp

MS = 1_000_000


class Listener:
    """Feeds an `InboundStream` that began at 0 ms; packets arrive on the beat of 20 ms."""

    def __init__(self) -> None:
        self.stream = InboundStream(0)
        self.now_ms = 0
        self.heard: list[tuple[int, bytes]] = []

    def hear(self, *datagrams: bytes) -> "Listener":
        """Take packets; what is delivered is noted with its media time."""
        for datagram in datagrams:
            payload = self.stream.accept(datagram, self.now_ms * MS)
            self.now_ms += 20
            if payload is not None:
                self.heard.append((self.stream.timestamp_ms, payload))
        return self

    @property
    def times_ms(self) -> list[int]:
        """The media times of what was delivered."""
        return [timestamp_ms for timestamp_ms, _ in self.heard]

    @property
    def payloads(self) -> list[bytes]:
        """What was delivered."""
        return [payload for _, payload in self.heard]


def test_stream_in_order() -> None:
    """Five packets are five payloads, 20 ms apart."""
    listener = Listener().hear(*(rtp(n) for n in range(10, 15)))
    assert listener.payloads == [frame(n) for n in range(10, 15)]
    assert listener.times_ms == [0, 20, 40, 60, 80]
    assert listener.stream.counts == InboundCounts(received=5)


def test_first_packet_has_its_arrival_time() -> None:
    """A caller who speaks first after 500 ms has the media time 500 ms."""
    listener = Listener()
    listener.now_ms = 500
    assert listener.hear(rtp(1), rtp(2)).times_ms == [500, 520]


def test_arrival_jitter_does_not_show() -> None:
    """Media times follow the RTP clock, not the arrival."""
    listener = Listener().hear(rtp(1))
    listener.now_ms = 95
    listener.hear(rtp(2))
    listener.now_ms = 96
    assert listener.hear(rtp(3)).times_ms == [0, 20, 40]


def test_sequence_wraps() -> None:
    """Row 26: after 65535 comes 0, and nothing is lost."""
    packets = [rtp(n % 65536, 1000 + 160 * i) for i, n in enumerate(range(65534, 65538))]
    listener = Listener().hear(*packets)
    assert listener.times_ms == [0, 20, 40, 60]
    assert listener.stream.counts == InboundCounts(received=4)


def test_timestamp_wraps() -> None:
    """Row 26: after 4294967200 comes 64."""
    packets = [rtp(n, (4294967200 - 160 + 160 * n) % (1 << 32)) for n in range(4)]
    listener = Listener().hear(*packets)
    assert listener.times_ms == [0, 20, 40, 60]
    assert listener.stream.counts == InboundCounts(received=4)


def test_loss_at_the_wrap() -> None:
    """Row 26: 65535 and 0 are lost; the gap shows in the media time."""
    listener = Listener().hear(rtp(65534, 0), rtp(1, 480))
    assert listener.times_ms == [0, 60]
    assert listener.stream.counts == InboundCounts(received=2, lost=2)


def test_lost_packets_show_as_a_gap() -> None:
    """Row 26: two lost packets are 40 ms that nobody delivers."""
    listener = Listener().hear(rtp(1), rtp(2), rtp(5), rtp(6))
    assert listener.times_ms == [0, 20, 80, 100]
    assert listener.stream.counts == InboundCounts(received=4, lost=2)


def test_silence_suppression_shows_as_a_gap() -> None:
    """A sender that pauses for 200 ms goes on in sequence with a later timestamp."""
    listener = Listener().hear(rtp(1, 0))
    listener.now_ms = 220
    listener.hear(rtp(2, 160 + 1600), rtp(3, 320 + 1600))
    assert listener.times_ms == [0, 220, 240]
    assert listener.stream.counts == InboundCounts(received=3)


def test_duplicate_is_dropped() -> None:
    """Row 26: a packet that comes twice is delivered once."""
    listener = Listener().hear(rtp(1), rtp(2), rtp(2), rtp(1), rtp(3))
    assert listener.payloads == [frame(1), frame(2), frame(3)]
    assert listener.stream.counts == InboundCounts(received=5, duplicate=2)


def test_late_packet_is_dropped() -> None:
    """Row 26: order is kept; a packet behind its successor counts as late, not as lost."""
    listener = Listener().hear(rtp(1), rtp(3), rtp(2), rtp(4))
    assert listener.payloads == [frame(1), frame(3), frame(4)]
    assert listener.stream.counts == InboundCounts(received=4, late=1)


def test_late_packet_that_comes_twice() -> None:
    """Row 26: the second copy is a duplicate."""
    counts = Listener().hear(rtp(1), rtp(3), rtp(2), rtp(2)).stream.counts
    assert counts == InboundCounts(received=4, late=1, duplicate=1)


def test_new_source() -> None:
    """Row 26: another SSRC is followed at once, whatever its numbers are; time goes on."""
    listener = Listener().hear(rtp(1), rtp(2))
    listener.hear(rtp_packet.build(40000, 99, 8, b"a" * 160))
    listener.hear(rtp_packet.build(40001, 259, 8, b"b" * 160))
    assert listener.times_ms == [0, 20, 40, 60]
    assert listener.stream.counts == InboundCounts(received=4, restarts=1)


def test_new_source_never_turns_time_back() -> None:
    """Row 26: a source that comes sooner than the last one's audio ends begins at that end."""
    listener = Listener().hear(rtp(1), rtp(2), rtp(3))
    listener.now_ms = 41
    assert listener.hear(rtp_packet.build(1, 1, 8, b"a" * 160)).times_ms == [0, 20, 40, 60]


def test_restarted_sequence() -> None:
    """Row 26: a second packet in the row of a far jump is a restart; the first is dropped."""
    listener = Listener().hear(rtp(1), rtp(2), rtp(30000), rtp(30001), rtp(30002))
    assert listener.payloads == [frame(1), frame(2), frame(30001), frame(30002)]
    assert listener.times_ms == [0, 20, 60, 80]
    assert listener.stream.counts == InboundCounts(received=5, restarts=1)


def test_stray_packet_does_not_move_the_stream() -> None:
    """Row 26: one packet from far away is dropped, and the stream goes on."""
    listener = Listener().hear(rtp(1), rtp(2), rtp(30000), rtp(3), rtp(4))
    assert listener.payloads == [frame(n) for n in (1, 2, 3, 4)]
    assert listener.times_ms == [0, 20, 40, 60]


def test_border_of_loss_and_restart() -> None:
    """RFC 3550 A.1: 2,999 missing packets are loss, 3,000 are a new beginning."""
    assert Listener().hear(rtp(0), rtp(3000)).stream.counts.lost == 2999
    far = Listener().hear(rtp(0), rtp(3001))
    assert (far.stream.counts.lost, len(far.heard)) == (0, 1)


def test_border_of_late_and_restart() -> None:
    """RFC 3550 A.1: 100 behind the expected one is old, 101 is a new beginning."""
    near = Listener().hear(rtp(1000), rtp(901), rtp(902)).stream.counts
    assert (near.duplicate, near.restarts) == (2, 0)
    far = Listener().hear(rtp(1000), rtp(900), rtp(901)).stream.counts
    assert (far.duplicate, far.restarts) == (1, 0)
    further = Listener().hear(rtp(1000), rtp(800), rtp(801)).stream.counts
    assert (further.duplicate, further.restarts) == (0, 1)


def test_timestamp_set_anew() -> None:
    """Row 26: a sequence that goes on with an unrelated timestamp goes on by the arrival clock."""
    listener = Listener().hear(rtp(1, 160), rtp(2, 320), rtp(3, 3_000_000_000))
    listener.hear(rtp(4, 3_000_000_160))
    assert listener.times_ms == [0, 20, 40, 60]
    assert listener.stream.counts == InboundCounts(received=4)


def test_timestamp_that_jumps_back() -> None:
    """Row 26: the media time never goes back with it."""
    listener = Listener().hear(rtp(1, 100_000), rtp(2, 100_160), rtp(3, 50_000), rtp(4, 50_160))
    assert listener.times_ms == [0, 20, 40, 60]


def test_other_payload_types_are_dropped() -> None:
    """A digit by RFC 4733 in the stream is neither audio nor a lost packet."""
    digit = b"\x80\x65" + rtp(2)[2:]
    listener = Listener().hear(rtp(1), digit, rtp(3, 320))
    assert listener.payloads == [frame(1), frame(3)]
    assert listener.times_ms == [0, 20]
    assert listener.stream.counts == InboundCounts(received=2, other_payload_type=1)


def test_malformed_datagrams_are_counted() -> None:
    """Row 25: they change nothing else."""
    version_one = b"\x40" + rtp(2)[1:]
    bad_padding = b"\xa0" + rtp(2, payload=b"\xff")[1:]
    cut_sources = b"\x8f" + rtp(2)[1:20]
    cut_extension = b"\x90" + rtp(2)[1:14]
    bad = [b"", b"\x80", rtp(2)[:11], version_one, bad_padding, cut_sources, cut_extension]
    listener = Listener().hear(rtp(1), *bad, rtp(2))
    assert listener.payloads == [frame(1), frame(2)]
    assert listener.stream.counts == InboundCounts(received=2, malformed=7)


def test_padding_and_extension_in_the_stream() -> None:
    """A packet with header parts that Asterisk doesn't send is still the next packet."""
    padded = b"\xa0" + rtp(2)[1:] + b"\0\0\3"
    extended = b"\x90" + rtp(3)[1:12] + b"\xbe\xde\0\1word" + frame(3)
    listener = Listener().hear(rtp(1), padded, extended, rtp(4))
    assert listener.payloads == [frame(n) for n in (1, 2, 3, 4)]
    assert listener.times_ms == [0, 20, 40, 60]


def test_frames_of_other_lengths() -> None:
    """Packets of 30 and 10 ms: the media time follows the samples."""
    packets = [rtp(1, 0, b"a" * 240), rtp(2, 240, b"b" * 80), rtp(3, 320, b"c" * 160)]
    assert Listener().hear(*packets).times_ms == [0, 30, 40]


def test_marker_bit_is_ignored() -> None:
    """The first packet of a talkspurt may carry it (RFC 3551 section 4.1)."""
    marked = rtp_packet.build(2, 320, 7, frame(2), marker=True)
    assert Listener().hear(rtp(1), marked, rtp(3)).payloads == [frame(1), frame(2), frame(3)]


def test_long_loss_keeps_little_memory() -> None:
    """Row 26: of thousands of missing packets only the last hundred can still come late."""
    listener = Listener().hear(rtp(0), rtp(2901), rtp(5802))
    assert listener.stream.counts.lost == 5800
    listener.hear(rtp(5703), rtp(5702))
    assert listener.stream.counts.lost == 5799
    assert listener.stream.counts.late == 1
