"""Inputs and checks of what handles media: datagrams of the caller, audio of the voice server."""

from typing import Final

import msgspec
from hypothesis import strategies as st

from shim import rtp_packet
from shim.inbound_stream import InboundStream
from shim.playout import PassedMark, Playout
from shim.rtp_packet import RtpError

FRAME: Final = 160


def _mostly_rtp(draw: st.DrawFn) -> bytes:
    """A datagram with a header that may be right, and anything behind it."""
    flags = draw(st.sampled_from([0x80] * 6 + [0x81, 0x8F, 0x90, 0xA0, 0xB3, 0x40, 0xC0, 0x00]))
    kind = draw(st.sampled_from([0, 0, 0, 0x80, 101, 13, 127]))
    sequence = draw(st.integers(0, 40) | st.integers(65500, 65535) | st.integers(0, 65535))
    timestamp = draw(st.integers(0, 20).map(lambda n: n * 160) | st.integers(0, (1 << 32) - 1))
    ssrc = draw(st.sampled_from([7, 7, 7, 8]))
    body = draw(st.binary(max_size=40) | st.just(b"\xff" * FRAME))
    return bytes([flags, kind]) + b"".join(
        [sequence.to_bytes(2, "big"), timestamp.to_bytes(4, "big"), ssrc.to_bytes(4, "big"), body]
    )


datagrams = st.binary(max_size=80) | st.composite(_mostly_rtp)()
arrivals = st.lists(st.tuples(datagrams, st.integers(0, 100)), max_size=60)
packets = st.tuples(
    st.integers(0, 65535),
    st.integers(0, (1 << 32) - 1),
    st.integers(0, (1 << 32) - 1),
    st.binary(max_size=400),
    st.booleans(),
)


def check_parse(datagram: bytes) -> None:
    """Nothing but RtpError; what is parsed lies within the datagram."""
    try:
        packet = rtp_packet.parse(datagram)
    except RtpError:
        return
    assert packet.payload in datagram
    assert 0 <= packet.payload_type < 128
    assert len(packet.payload) <= len(datagram) - 12


def check_round_trip(fields: tuple[int, int, int, bytes, bool]) -> None:
    """What is built is parsed again."""
    sequence, timestamp, ssrc, payload, marker = fields
    datagram = rtp_packet.build(sequence, timestamp, ssrc, payload, marker=marker)
    assert rtp_packet.parse(datagram) == (marker, 0, sequence, timestamp, ssrc, payload)


def check_inbound(datagrams_and_pauses_ms: list[tuple[bytes, int]]) -> None:
    """No datagram raises, counters add up, order is kept, and time never goes back."""
    stream = InboundStream(0)
    now_ms, delivered, last_ms = 0, 0, 0
    last: rtp_packet.RtpPacket | None = None
    restarts = 0
    for datagram, pause_ms in datagrams_and_pauses_ms:
        now_ms += pause_ms
        payload = stream.accept(datagram, now_ms * 1_000_000)
        if payload is None:
            continue
        delivered += 1
        packet = rtp_packet.parse(datagram)
        assert payload == packet.payload
        assert packet.payload_type == 0
        if last is not None and stream.counts.restarts == restarts:
            assert packet.ssrc == last.ssrc
            assert 0 < (packet.sequence - last.sequence) % 65536 < 6100
        last, restarts = packet, stream.counts.restarts
        assert stream.timestamp_ms >= last_ms
        last_ms = stream.timestamp_ms
    counts = stream.counts
    assert min(msgspec.structs.astuple(counts)) >= 0
    arrived = len(datagrams_and_pauses_ms)
    assert counts.received + counts.malformed + counts.other_payload_type == arrived
    assert counts.received >= delivered + counts.late + counts.duplicate


playout_steps = st.lists(
    st.binary(max_size=500).filter(bool)
    | st.just(b"\x01" * FRAME)
    | st.sampled_from(["pull", "pull", "mark", "mark", "passed", "clear"]),
    max_size=60,
)


class PlayoutModel:
    """The same queue, as plainly as possible."""

    def __init__(self) -> None:
        self.waiting = b""
        self.marks: list[tuple[str, int]] = []
        self.gone = 0
        self.played = 0
        self.out = b""

    def pull(self) -> bytes | None:
        """The first frame of what waits, padded."""
        frame, self.waiting = self.waiting[:FRAME], self.waiting[FRAME:]
        self.gone += len(frame)
        self.played += len(frame)
        self.out += frame
        return frame.ljust(FRAME, b"\xff") if frame else None

    def due(self) -> list[str]:
        """The names of the marks whose audio is gone."""
        due = [name for name, position in self.marks if position <= self.gone]
        self.marks = self.marks[len(due) :]
        return due


def check_playout(steps: list[bytes | str]) -> None:
    """Bytes come out as they went in, less what was cleared; marks in order, each once."""
    playout, model = Playout(), PlayoutModel()
    passed: list[PassedMark] = []
    for number, step in enumerate(steps):
        match step:
            case bytes():
                playout.push(step)
                model.waiting += step
            case "pull":
                assert playout.pull() == model.pull()
            case "mark":
                playout.mark(f"{number}")
                model.marks.append((f"{number}", model.gone + len(model.waiting)))
            case "passed":
                now = playout.passed()
                assert [mark.name for mark in now] == model.due()
                passed += now
            case "clear":
                model.gone, model.waiting = model.gone + len(model.waiting), b""
                now = playout.clear()
                assert [mark.name for mark in now] == model.due()
                passed += now
        assert playout.queued_bytes == len(model.waiting)
        assert playout.pending_marks == len(model.marks)
        assert playout.played_bytes == len(model.out) == model.played
        assert playout.played_bytes + playout.cleared_bytes == model.gone
    assert all(mark.played_ms >= 0 and mark.cleared_ms >= 0 for mark in passed)
    assert sum(mark.played_ms for mark in passed) <= playout.played_bytes // 8
    assert sum(mark.cleared_ms for mark in passed) <= playout.cleared_bytes // 8
