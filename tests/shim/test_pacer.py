"""The pacer on literal times, no sleeps. The first place is the slot at multiples of 20 ms."""

from shim.pacer import SLOTS, Pacer

MS = 1_000_000


class Ticks:
    """A stream that notes what it was told: a frame at a time, or ticks skipped."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.sent_at_ms: list[int] = []
        self.skipped = 0

    def send_frame(self) -> None:
        """Note the time."""
        self.sent_at_ms.append(self.now_ms)

    def skip_frames(self, count: int) -> None:
        """Add them up."""
        self.skipped += count


def run(pacer: Pacer, streams: list[Ticks], times_ms: list[int]) -> None:
    """Run the pacer at each of these times."""
    for now_ms in times_ms:
        for stream in streams:
            stream.now_ms = now_ms
        pacer.run(now_ms * MS)


def test_one_frame_each_20_ms() -> None:
    """A stream sends in every 20th millisecond: 50 times a second, equally spaced."""
    pacer, stream = Pacer(0), Ticks()
    pacer.add(stream)
    run(pacer, [stream], list(range(1, 1001)))
    assert stream.sent_at_ms == list(range(20, 1001, 20))


def test_no_drift_with_a_late_clock() -> None:
    """A clock that looks each 7 ms is late by up to 6 ms, and after 70 s not by more."""
    pacer, stream = Pacer(0), Ticks()
    pacer.add(stream)
    run(pacer, [stream], list(range(0, 70_001, 7)))
    assert len(stream.sent_at_ms) == 3500
    late_ms = [at_ms - 20 * (n + 1) for n, at_ms in enumerate(stream.sent_at_ms)]
    assert min(late_ms) == 0
    assert max(late_ms) == 6
    assert stream.skipped == 0


def test_running_twice_in_a_millisecond_sends_once() -> None:
    """A second look at the same time finds nothing due."""
    pacer, stream = Pacer(0), Ticks()
    pacer.add(stream)
    run(pacer, [stream], [20, 20, 20])
    assert stream.sent_at_ms == [20]


def test_streams_are_spread() -> None:
    """Two streams for each slot send two frames in each slot of a tick, in equal distances."""
    pacer = Pacer(0)
    streams = [Ticks() for _ in range(2 * SLOTS)]
    for stream in streams:
        pacer.add(stream)
    run(pacer, streams, list(range(1, 21)))
    sent_at_ms = sorted(at for stream in streams for at in stream.sent_at_ms)
    assert sent_at_ms == sorted([20 // SLOTS * n for n in range(1, SLOTS + 1)] * 2)
    assert len(pacer) == 2 * SLOTS


def test_a_freed_place_is_taken_first() -> None:
    """A new stream goes where the fewest are."""
    pacer = Pacer(0)
    streams = [Ticks() for _ in range(SLOTS)]
    places = [pacer.add(stream) for stream in streams]
    pacer.remove(streams[2])
    late = Ticks()
    assert pacer.add(late) == places[2]
    run(pacer, [*streams, late], list(range(1, 21)))
    assert late.sent_at_ms == [20 // SLOTS * places[2]]
    assert streams[2].sent_at_ms == []


def test_a_place_that_was_had_before_is_kept() -> None:
    """A stream taken over from another worker keeps its cadence, however full its slot is."""
    pacer = Pacer(0)
    for _ in range(5):
        assert pacer.add(Ticks(), 3) == 3
    assert pacer.add(Ticks()) == 0


def test_removing_a_stranger_is_no_error() -> None:
    """A stream that is not there can be removed."""
    pacer = Pacer(0)
    pacer.remove(Ticks())
    assert len(pacer) == 0


def test_a_stream_removed_by_another_in_the_same_slot() -> None:
    """A frame's consequences may end other calls while the pacer runs."""
    pacer = Pacer(0)
    victim = Ticks()

    class Assassin(Ticks):
        """Ends the other call with its frame."""

        def send_frame(self) -> None:
            """Remove the victim."""
            super().send_frame()
            pacer.remove(victim)

    assassin = Assassin()
    pacer.add(victim, pacer.add(assassin))
    run(pacer, [assassin, victim], list(range(1, 41)))
    assert assassin.sent_at_ms == [20, 40]
    assert len(victim.sent_at_ms) <= 1


def test_short_stall_is_caught_up_in_full() -> None:
    """After 60 ms without a look all three frames are sent, none skipped."""
    pacer, stream = Pacer(0), Ticks()
    pacer.add(stream)
    run(pacer, [stream], [20, 80, 100])
    assert stream.sent_at_ms == [20, 80, 80, 80, 100]
    assert stream.skipped == 0


def test_stall_of_200_ms() -> None:
    """Row 3: at most three frames at once, the other seven ticks skipped, no drift afterwards."""
    pacer, stream = Pacer(0), Ticks()
    pacer.add(stream)
    run(pacer, [stream], [20, 220, *range(221, 301)])
    assert stream.sent_at_ms == [20, 220, 220, 220, 240, 260, 280, 300]
    assert stream.skipped == 7
    assert pacer.skipped_frames == 7
    assert len(stream.sent_at_ms) + stream.skipped == 300 // 20


def test_stall_with_streams_in_all_slots() -> None:
    """Row 3: whatever a stream's place and the stall's length, frames and skips fill the time."""
    for stall_ms in range(40, 400, 13):
        pacer = Pacer(0)
        streams = [Ticks() for _ in range(SLOTS)]
        for stream in streams:
            pacer.add(stream)
        run(pacer, streams, [*range(1, 41), 40 + stall_ms])
        for stream in streams:
            burst = stream.sent_at_ms.count(40 + stall_ms)
            assert burst <= 3
        run(pacer, streams, list(range(41 + stall_ms, 801)))
        for stream in streams:
            assert len(stream.sent_at_ms) + stream.skipped == 40
            assert stream.sent_at_ms[-1] > 780


def test_stall_of_an_hour() -> None:
    """A suspended machine costs neither time nor a burst."""
    pacer, stream = Pacer(0), Ticks()
    pacer.add(stream)
    run(pacer, [stream], [20, 3_600_020])
    assert stream.sent_at_ms == [20, 3_600_020, 3_600_020, 3_600_020]
    assert stream.skipped == 179_997


def test_rest_forgets_the_time_without_streams() -> None:
    """After a pause the first stream is not overdue."""
    pacer, stream = Pacer(0), Ticks()
    pacer.rest(10_005 * MS)
    pacer.add(stream)
    run(pacer, [stream], [10_006, 10_020])
    assert stream.sent_at_ms == [10_020]
    assert stream.skipped == 0


def test_lateness_histogram() -> None:
    """Slots are counted by lateness: up to 1, 2, 5, 10, 20, 50, 100, 500 ms, and beyond."""
    pacer, stream = Pacer(0), Ticks()
    pacer.add(stream)
    run(pacer, [stream], [20, 42, 75, 80])
    assert pacer.lateness == [2, 1, 0, 0, 1, 0, 0, 0, 0]
    assert pacer.worst_lateness_ns == 15 * MS


def test_time_before_the_start_sends_nothing() -> None:
    """A clock that was read before the pacer was made does no harm."""
    pacer, stream = Pacer(1000 * MS), Ticks()
    pacer.add(stream)
    run(pacer, [stream], [980, 1000])
    assert stream.sent_at_ms == []
