"""The caller's stream: jitter, gaps, and key presses: literal packets and arrival times."""

from shim.inbound_stream import KEY_WINDOW_NS, InboundStream
from tests.shim.samples import rtp

MS = 1_000_000
KEY_MS = 11 * 20
"""A key press as a phone sends it: eight packets, and the end three times."""


def stream_of(packets: int) -> InboundStream:
    """A stream with so many packets, from 0 ms on, on the beat of 20 ms."""
    stream = InboundStream(0)
    for number in range(packets):
        stream.accept(rtp(number), number * 20 * MS)
    return stream


def resume(stream: InboundStream, number: int, at_ms: int) -> None:
    """A packet that was spoken when its number says."""
    stream.accept(rtp(number), at_ms * MS)


def test_on_the_beat() -> None:
    """No jitter, no gap."""
    stream = stream_of(50)
    assert (stream.jitter_ns, stream.longest_gap_ns) == (0, 0)


def test_jitter() -> None:
    """RFC 3550 6.4.1: a sixteenth of the way to each new deviation, early or late."""
    stream = stream_of(2)
    resume(stream, 2, 56)
    assert stream.jitter_ns == MS
    resume(stream, 3, 60)
    assert stream.jitter_ns == MS + (16 - 1) * MS // 16


def test_jitter_beside_loss() -> None:
    """What comes on time is no jitter, whatever was lost before."""
    stream = stream_of(2)
    resume(stream, 5, 100)
    assert (stream.jitter_ns, stream.counts.lost) == (0, 3)
    resume(stream, 7, 156)
    assert stream.jitter_ns == MS


def test_gaps() -> None:
    """A stall and a loss are gaps of what was missing; the longest counts."""
    stream = stream_of(2)
    resume(stream, 2, 100)
    assert stream.longest_gap_ns == 60 * MS
    resume(stream, 8, 220)
    assert stream.longest_gap_ns == 100 * MS


def test_how_long_nothing_has_come() -> None:
    """From when a packet was due; while they come it is nothing."""
    assert InboundStream(5 * MS).silent_ns(3005 * MS) == 3000 * MS
    stream = stream_of(50)
    assert stream.silent_ns(50 * 20 * MS - 1) == 0
    assert stream.silent_ns(50 * 20 * MS + 1500 * MS) == 1500 * MS


def test_silence_on_purpose_is_no_gap() -> None:
    """A phone that leaves out silence goes on with its sequence numbers (RFC 3551 section 4.1)."""
    stream = stream_of(2)
    stream.accept(rtp(2, 160 * 100), 2000 * MS)
    assert (stream.longest_gap_ns, stream.jitter_ns, stream.counts.lost) == (0, 0, 0)


def test_a_clock_set_anew_is_no_jitter() -> None:
    """A jump of hours in the timestamps says nothing about arrivals."""
    stream = stream_of(2)
    stream.accept(rtp(2, 1 << 30), 40 * MS)
    assert (stream.longest_gap_ns, stream.jitter_ns) == (0, 0)


def test_a_key_press_is_no_loss() -> None:
    """The news of the key comes before its gap's end, or after it: both are the key's."""
    before, after = stream_of(10), stream_of(10)
    before.press_key((200 + KEY_MS - 60) * MS)
    for stream in (before, after):
        resume(stream, 10 + 11, 200 + KEY_MS)
        resume(stream, 10 + 12, 220 + KEY_MS)
    assert after.counts.lost == 11
    after.press_key((220 + KEY_MS) * MS)
    for stream in (before, after):
        assert (stream.counts.lost, stream.longest_gap_ns, stream.counts.received) == (0, 0, 12)


def test_a_key_takes_one_gap_only() -> None:
    """What is lost beside it is lost."""
    stream = stream_of(10)
    resume(stream, 21, 420)
    stream.press_key(430 * MS)
    resume(stream, 27, 540)
    stream.press_key(5000 * MS)
    assert (stream.counts.lost, stream.longest_gap_ns) == (5, 100 * MS)


def test_a_short_gap_is_no_key_press() -> None:
    """Less than a key's packets were lost, just before the key."""
    stream = stream_of(10)
    resume(stream, 11, 220)
    stream.press_key(230 * MS)
    resume(stream, 23, 460)
    assert stream.counts.lost == 1


def test_an_old_key_press_explains_nothing() -> None:
    """A phone that sends tones as audio leaves no gap; a loss later on is one."""
    stream = stream_of(10)
    stream.press_key(200 * MS)
    late = 10 + KEY_WINDOW_NS // (20 * MS) + 1
    for number in range(10, late):
        resume(stream, number, number * 20)
    resume(stream, late + 5, (late + 5) * 20)
    assert stream.counts.lost == 5
