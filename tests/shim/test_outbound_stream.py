"""The stream to the caller: numbering, wrap, and going on in another process."""

from shim import rtp_packet
from shim.outbound_stream import OutboundStream
from shim.pcmu import SILENT_FRAME
from shim.rtp_packet import RtpPacket
from tests.shim.samples import call_spec, frame

MS = 1_000_000


class Wire:
    """Takes datagrams as a socket's `send` does; `broken` makes it refuse them."""

    def __init__(self) -> None:
        self.packets: list[RtpPacket] = []
        self.broken = False

    def send(self, datagram: bytes) -> int:
        """Keep the packet."""
        if self.broken:
            raise ConnectionRefusedError(111, "Connection refused")
        self.packets.append(rtp_packet.parse(datagram))
        return len(datagram)

    @property
    def numbers(self) -> list[tuple[int, int]]:
        """Sequence number and timestamp of each packet."""
        return [(packet.sequence, packet.timestamp) for packet in self.packets]


def shared_words() -> memoryview:
    """A call's words, as they are at its start."""
    return memoryview(bytearray(24)).cast("Q")


def test_first_frame_and_the_wraps() -> None:
    """Sequence number and timestamp begin where the call says, and wrap at 2**16 and 2**32."""
    wire, words = Wire(), shared_words()
    call = call_spec(first_sequence=65534, first_timestamp=4294967000, epoch_ns=0)
    stream = OutboundStream(call, wire.send, words, 0)
    for number in range(4):
        stream.send(frame(number))
    assert wire.numbers == [(65534, 4294967000), (65535, 4294967160), (0, 24), (1, 184)]
    assert [packet.payload for packet in wire.packets] == [frame(n) for n in range(4)]
    assert {(p.ssrc, p.payload_type, p.marker) for p in wire.packets} == {(0xCAFE0001, 0, False)}
    assert words[0] == 4


def test_timestamp_follows_the_clock() -> None:
    """RFC 3550 section 5.1: a stream that begins 1,010 ms after the epoch is 50 frames on."""
    wire = Wire()
    call = call_spec(first_sequence=7, first_timestamp=1000, epoch_ns=5 * MS)
    OutboundStream(call, wire.send, shared_words(), 1015 * MS).send(SILENT_FRAME)
    assert wire.numbers == [(7, 1000 + 50 * 160)]


def test_clock_before_the_epoch() -> None:
    """Another process's clock is the same clock, but may have been read a little earlier."""
    wire = Wire()
    call = call_spec(first_sequence=7, first_timestamp=1000, epoch_ns=5 * MS)
    OutboundStream(call, wire.send, shared_words(), 4 * MS).send(SILENT_FRAME)
    assert wire.numbers == [(7, 1000)]


def test_skipped_frames_move_the_timestamp_only() -> None:
    """Row 3: after a stall the sequence goes on without a gap, the timestamp with one."""
    wire = Wire()
    stream = OutboundStream(
        call_spec(first_sequence=1, first_timestamp=0), wire.send, shared_words(), 0
    )
    stream.send(SILENT_FRAME)
    stream.skip(7)
    stream.send(SILENT_FRAME)
    assert wire.numbers == [(1, 0), (2, 8 * 160)]


def test_refused_frames_are_counted() -> None:
    """Row 27: a send error costs its frame, not the numbering."""
    wire, words = Wire(), shared_words()
    stream = OutboundStream(call_spec(first_sequence=1, first_timestamp=0), wire.send, words, 0)
    stream.send(SILENT_FRAME)
    wire.broken = True
    stream.send(SILENT_FRAME)
    stream.send(SILENT_FRAME)
    wire.broken = False
    stream.send(SILENT_FRAME)
    assert wire.numbers == [(1, 0), (4, 480)]
    assert (stream.send_errors, words[0]) == (2, 4)


def test_another_process_goes_on() -> None:
    """Row 1: SSRC kept, next sequence number, and the timestamp tells how long it was silent."""
    wire, words = Wire(), shared_words()
    call = call_spec(first_sequence=65535, first_timestamp=0)
    first = OutboundStream(call, wire.send, words, 0)
    for _ in range(5):
        first.send(SILENT_FRAME)
    second = OutboundStream(call, wire.send, words, 180 * MS)
    second.send(SILENT_FRAME)
    assert wire.numbers[-2:] == [(3, 4 * 160), (4, 9 * 160)]
    assert {packet.ssrc for packet in wire.packets} == {0xCAFE0001}
