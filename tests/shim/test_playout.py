"""The audio queue: frames out of pieces of any size, and what becomes of marks."""

from shim.playout import PassedMark, Playout
from tests.shim.samples import frame


def pull_all(playout: Playout) -> list[bytes]:
    """Take frames until nothing waits."""
    frames = []
    while (audio := playout.pull()) is not None:
        frames.append(audio)
    return frames


def test_nothing_waits_at_first() -> None:
    """An empty queue gives no frame and no marks."""
    playout = Playout()
    assert playout.pull() is None
    assert playout.passed() == []
    assert playout.clear() == []
    assert (playout.queued_bytes, playout.pending_marks) == (0, 0)


def test_frame_for_frame() -> None:
    """Pieces of 160 bytes come out as they went in."""
    playout = Playout()
    for number in range(3):
        playout.push(frame(number))
    assert playout.queued_bytes == 480
    assert pull_all(playout) == [frame(0), frame(1), frame(2)]
    assert (playout.queued_bytes, playout.played_bytes) == (0, 480)


def test_pieces_are_joined_to_frames() -> None:
    """Pieces of 100, 60, 1 and 159 bytes are two frames."""
    playout = Playout()
    audio = bytes(range(160)) * 2
    for start, end in ((0, 100), (100, 160), (160, 161), (161, 320)):
        playout.push(audio[start:end])
    assert pull_all(playout) == [audio[:160], audio[160:]]


def test_large_piece_is_cut_into_frames() -> None:
    """Eight thousand bytes are fifty frames."""
    playout = Playout()
    audio = bytes(number % 256 for number in range(8000))
    playout.push(audio)
    frames = pull_all(playout)
    assert [len(one) for one in frames] == [160] * 50
    assert b"".join(frames) == audio


def test_last_piece_is_filled_up_with_silence() -> None:
    """A rest of less than a frame is played at once, with 0xFF behind it; it counts as it is."""
    playout = Playout()
    playout.push(b"\x01" * 161)
    assert playout.pull() == b"\x01" * 160
    assert playout.pull() == b"\x01" + b"\xff" * 159
    assert playout.played_bytes == 161


def test_audio_after_a_filled_up_frame_begins_a_new_frame() -> None:
    """What comes too late for a frame is not mixed into it."""
    playout = Playout()
    playout.push(b"\x01" * 10)
    assert playout.pull() == b"\x01" * 10 + b"\xff" * 150
    playout.push(b"\x02" * 160)
    assert playout.pull() == b"\x02" * 160
    assert playout.played_bytes == 170


def test_empty_piece_changes_nothing() -> None:
    """A media message without audio is no frame."""
    playout = Playout()
    playout.push(b"")
    assert (playout.pull(), playout.queued_bytes) == (None, 0)


def test_mark_without_audio_passes_at_once() -> None:
    """Nothing is in front of it."""
    playout = Playout()
    playout.mark("idle")
    assert playout.passed() == [PassedMark("idle", 0, 0)]
    assert playout.passed() == []


def test_mark_passes_when_its_last_frame_is_taken() -> None:
    """Not a frame before: 400 ms are 20 frames."""
    playout = Playout()
    playout.push(b"\x01" * 3200)
    playout.mark("end")
    for _ in range(19):
        playout.pull()
        assert playout.passed() == []
    playout.pull()
    assert playout.passed() == [PassedMark("end", 400, 0)]


def test_mark_inside_a_frame_passes_with_that_frame() -> None:
    """Audio behind the mark in the same frame does not delay it; its own 100 bytes are 12 ms."""
    playout = Playout()
    playout.push(b"\x01" * 100)
    playout.mark("inside")
    playout.push(b"\x02" * 220)
    playout.pull()
    assert playout.passed() == [PassedMark("inside", 20, 0)]
    assert playout.pending_marks == 0


def test_marks_of_one_name_pass_one_by_one() -> None:
    """Duplicate names are normal; each mark set is returned once."""
    playout = Playout()
    for _ in range(3):
        playout.push(frame(1))
        playout.mark("responsePart")
    passed = []
    for _ in range(3):
        playout.pull()
        passed.append(playout.passed())
    assert passed == [[PassedMark("responsePart", 20, 0)]] * 3


def test_marks_behind_the_same_audio_pass_together() -> None:
    """Only the first of them accounts for the audio."""
    playout = Playout()
    playout.push(frame(1))
    playout.mark("a")
    playout.mark("b")
    playout.pull()
    assert playout.passed() == [PassedMark("a", 20, 0), PassedMark("b", 0, 0)]


def test_clear_returns_marks_with_what_was_thrown_away() -> None:
    """Of 100 + 60 ms, 40 ms are played; the marks account for 60 and 60 ms cleared."""
    playout = Playout()
    playout.push(b"\x01" * 800)
    playout.mark("a")
    playout.push(b"\x02" * 480)
    playout.mark("b")
    playout.pull()
    playout.pull()
    assert playout.clear() == [PassedMark("a", 40, 60), PassedMark("b", 0, 60)]
    assert playout.pull() is None
    assert (playout.played_bytes, playout.cleared_bytes, playout.queued_bytes) == (320, 960, 0)


def test_clear_after_the_mark_was_played() -> None:
    """A mark inside the last frame that was played is not charged with what was cleared."""
    playout = Playout()
    playout.push(b"\x01" * 100)
    playout.mark("played")
    playout.push(b"\x02" * 220)
    playout.mark("cleared")
    playout.pull()
    assert playout.clear() == [PassedMark("played", 20, 0), PassedMark("cleared", 0, 20)]
    assert (playout.played_bytes, playout.cleared_bytes) == (160, 160)


def test_clear_throws_away_a_rest_too() -> None:
    """Half a frame behind whole ones is cleared as well, and counted in the next mark."""
    playout = Playout()
    playout.push(b"\x01" * 240)
    assert playout.clear() == []
    assert playout.cleared_bytes == 240
    playout.mark("next")
    assert playout.passed() == [PassedMark("next", 0, 30)]


def test_new_audio_after_clear_is_played() -> None:
    """The queue goes on as if nothing had been there; its marks count from the clear on."""
    playout = Playout()
    playout.push(b"\x01" * 16000)
    playout.mark("old")
    playout.clear()
    playout.push(frame(2))
    playout.mark("new")
    assert playout.pull() == frame(2)
    assert playout.passed() == [PassedMark("new", 20, 0)]


def test_ten_minutes_wait() -> None:
    """Row 35: 4,800,000 bytes are 30,000 frames, and one clear empties them."""
    playout = Playout()
    for _ in range(600):
        playout.push(b"\x01" * 8000)
    assert playout.queued_bytes == 4_800_000
    playout.mark("end")
    assert playout.clear() == [PassedMark("end", 0, 600_000)]
    assert playout.queued_bytes == 0
