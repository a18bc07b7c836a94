"""The clock over real sockets, its timer, and a call that is ended from within a pass."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator

import pytest

from shim import timer_fd
from shim.media_clock import MAX_ROUNDS, MediaClock
from shim.pacer import SLOT_NS, SLOTS
from tests.shim.polling import until


class Stream:
    """One call's sockets, and what the clock did with it."""

    def __init__(self) -> None:
        self.rtp, self.peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.rtp.setblocking(False)
        self.slot: int | None = None
        self.sent_at_ns: list[int] = []
        self.skipped = 0
        self.received: list[bytes] = []
        self.errors: list[OSError] = []

    def send_frame(self) -> None:
        """Note the time."""
        self.sent_at_ns.append(time.monotonic_ns())

    def skip_frames(self, count: int) -> None:
        """Add them up."""
        self.skipped += count

    def receive(self, datagram: bytes, now_ns: int) -> None:
        """Keep the datagram."""
        self.received.append(datagram)

    def receive_failed(self, error: OSError) -> None:
        """Keep the error."""
        self.errors.append(error)

    def close(self) -> None:
        """Close both sockets."""
        self.rtp.close()
        self.peer.close()


@pytest.fixture
async def clock() -> MediaClock:
    """A clock on the test's loop; the test closes it."""
    return MediaClock()


@pytest.fixture
def streams() -> Iterator[list[Stream]]:
    """Three streams."""
    made = [Stream() for _ in range(3)]
    yield made
    for stream in made:
        stream.close()


async def test_frames_out_and_datagrams_in(clock: MediaClock, streams: list[Stream]) -> None:
    """Each stream sends at its cadence, and gets what its own socket received."""
    for stream in streams:
        clock.add(stream)
    for number, stream in enumerate(streams):
        stream.peer.send(b"%d" % number)
    await until(lambda: min(len(stream.sent_at_ns) for stream in streams) >= 20, "20 frames")
    assert [stream.received for stream in streams] == [[b"0"], [b"1"], [b"2"]]
    first, *_, last = streams[0].sent_at_ns[:20]
    assert 300 < (last - first) / 1e6 < 500  # 19 ticks are 380 ms
    for stream in streams:
        clock.remove(stream)
    clock.close()


async def test_first_frame_is_due_when_it_is_said(clock: MediaClock, streams: list[Stream]) -> None:
    """`add` tells the time of the first frame: a whole slot, at most 20 ms ahead, never past."""
    for stream in streams:
        now_ns = time.monotonic_ns()
        due_ns = clock.add(stream)
        assert due_ns % SLOT_NS == 0
        assert now_ns < due_ns <= time.monotonic_ns() + 20_000_000
        assert due_ns // SLOT_NS % SLOTS == stream.slot
    clock.close()


async def test_overdue_frames_are_not_a_newcomers(clock: MediaClock, streams: list[Stream]) -> None:
    """Row 3: a stream added after a stall neither catches up nor skips what was before it."""
    old, new, _ = streams
    clock.add(old)
    time.sleep(0.15)  # noqa: ASYNC251  # the stall of the loop is what is tested
    due_ns = clock.add(new)
    assert 2 <= len(old.sent_at_ns) <= 3
    assert new.sent_at_ns == []
    await until(lambda: new.sent_at_ns, "the newcomer's first frame")
    assert new.skipped == 0
    assert new.sent_at_ns[0] >= due_ns
    clock.close()


async def test_removed_stream_gets_what_had_arrived(
    clock: MediaClock, streams: list[Stream]
) -> None:
    """The last datagrams of a call are not lost with it, and none comes later."""
    stream = streams[0]
    clock.add(stream)
    for number in range(MAX_ROUNDS - 1):
        stream.peer.send(b"%d" % number)
    clock.remove(stream)
    assert stream.received == [b"0", b"1", b"2"]
    clock.remove(stream)
    count = len(stream.sent_at_ns)
    clock.add(streams[1])
    await until(lambda: len(streams[1].sent_at_ns) >= 3, "the other's frames")
    assert len(stream.sent_at_ns) == count
    clock.close()


async def test_read_errors_are_passed_on(clock: MediaClock, streams: list[Stream]) -> None:
    """Row 27: an error on one socket is that stream's; the others go on."""
    bad, good, _ = streams
    bad.close()
    bad.rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bad.rtp.setblocking(False)
    bad.rtp.connect(("127.0.0.1", 1))  # nobody listens
    clock.add(bad)
    clock.add(good)
    bad.rtp.send(b"into the void")
    good.peer.send(b"hello")
    await until(lambda: bad.errors and good.received, "the error and the datagram")
    assert [error.errno for error in bad.errors] == [111]
    clock.close()


async def test_stream_that_ends_another_in_the_same_pass(
    clock: MediaClock, streams: list[Stream]
) -> None:
    """What a datagram causes may end any call, the one that is read next included."""
    first, second, third = streams

    class Ender(Stream):
        """Ends all others with the first datagram."""

        def receive(self, datagram: bytes, now_ns: int) -> None:
            """Remove them."""
            super().receive(datagram, now_ns)
            for other in (first, second, third):
                clock.remove(other)

    ender = Ender()
    for stream in (ender, first, second, third):
        clock.add(stream)
        stream.peer.send(b"x")
    await until(lambda: ender.received, "the datagram")
    assert len(clock.pacer) == 1
    clock.close()
    ender.close()


async def test_flood_leaves_room_for_the_others(clock: MediaClock, streams: list[Stream]) -> None:
    """Row 24: one pass reads at most four datagrams of a socket."""
    flooded, quiet, _ = streams
    clock.add(flooded)
    clock.add(quiet)
    sent = 0
    flooded.peer.setblocking(False)
    try:
        while sent < 100:
            flooded.peer.send(b"x")
            sent += 1
    except BlockingIOError:
        pass  # the kernel's queue of a Unix socket is shorter than that
    quiet.peer.send(b"hello")
    await until(lambda: quiet.received, "the quiet stream's datagram")
    assert len(flooded.received) <= 2 * MAX_ROUNDS
    await until(lambda: len(flooded.received) == sent, "the flood")
    clock.close()


async def test_close_leaves_no_descriptor() -> None:
    """Timer and epoll set are closed."""
    before = len(os.listdir("/proc/self/fd"))
    MediaClock().close()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_timer_counts_periods() -> None:
    """A timer that was not looked at tells how many periods have passed; disarmed it stands."""
    timer = timer_fd.create()
    assert timer_fd.expirations(timer) == 0
    start_ns = time.monotonic_ns()
    timer_fd.arm(timer, 2_000_000)
    counted = 0

    def look() -> bool:
        nonlocal counted
        counted += timer_fd.expirations(timer)
        return counted >= 25

    await until(look, "25 periods of 2 ms")
    elapsed = (time.monotonic_ns() - start_ns) / 2e6
    assert counted <= elapsed + 1
    assert elapsed >= 25
    timer_fd.arm(timer, 0)
    timer_fd.expirations(timer)
    await asyncio.sleep(0)
    assert timer_fd.expirations(timer) == 0
    os.close(timer)
