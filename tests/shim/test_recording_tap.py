"""The tap: what goes in as frames comes out as runs, in chunks of a second."""

from hypothesis import given
from hypothesis import strategies as st

from shim.recording_format import Run, Track
from shim.recording_tap import CHUNK_FRAMES, MAX_CALLER_BYTES, RecordingTap, Runs, joined
from tests.shim.samples import frame


class Chunks:
    """A tap, and what it has handed over."""

    def __init__(self) -> None:
        self.chunks: list[list[Run]] = []
        self.tap = RecordingTap(self._take)

    def _take(self, runs: Runs) -> None:
        self.chunks.append([Run(*run) for run in joined(runs)])

    @property
    def runs(self) -> list[Run]:
        """All runs, whatever chunk they are in."""
        return [run for chunk in self.chunks for run in chunk]


def test_a_second_is_a_chunk() -> None:
    """Fifty frames of the agent, and what the caller said meanwhile, are two runs."""
    taken = Chunks()
    for number in range(CHUNK_FRAMES):
        assert not taken.chunks
        taken.tap.caller(7 + 160 * number, frame(number))
        taken.tap.agent(160 * number, frame(100 + number))
    caller = b"".join(map(frame, range(CHUNK_FRAMES)))
    agent = b"".join(frame(100 + number) for number in range(CHUNK_FRAMES))
    assert taken.chunks == [[Run(Track.CALLER, 7, caller), Run(Track.AGENT, 0, agent)]]


def test_a_gap_begins_a_run() -> None:
    """Frames that were skipped are missing, and the next one stands where it belongs."""
    taken = Chunks()
    for position in (0, 160, 640):
        taken.tap.agent(position, frame(1))
    taken.tap.flush()
    assert taken.runs == [Run(Track.AGENT, 0, frame(1) * 2), Run(Track.AGENT, 640, frame(1))]


def test_less_than_a_millisecond_is_no_gap() -> None:
    """Media times are whole milliseconds: pieces of 10 samples go on without a seam."""
    taken = Chunks()
    for number in range(100):
        taken.tap.caller(10 * number // 8 * 8, b"\x01" * 10)
    taken.tap.flush()
    assert taken.runs == [Run(Track.CALLER, 0, b"\x01" * 1000)]


def test_a_run_goes_on_over_the_chunks_end() -> None:
    """The next chunk's first position is where the last one ended, not a rounded one."""
    taken = Chunks()
    taken.tap.caller(0, b"\x01" * 10)
    taken.tap.flush()
    taken.tap.caller(8, b"\x02" * 10)
    taken.tap.flush()
    assert [run.position for run in taken.runs] == [0, 10]


def test_a_flood_makes_more_chunks() -> None:
    """Packets without end and no frame of the agent don't pile up."""
    taken = Chunks()
    for number in range(3 * MAX_CALLER_BYTES // 160):
        taken.tap.caller(160 * number, frame(number))
    assert len(taken.chunks) == 3


def test_nothing_is_no_chunk() -> None:
    """A flush of nothing hands nothing over."""
    taken = Chunks()
    taken.tap.flush()
    assert taken.chunks == []


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=300
    )
)
def test_every_sample_has_its_place(steps: list[tuple[bool, int, int]]) -> None:
    """Whatever is skipped on either side: each sample stands where it was put, and only there."""
    taken = Chunks()
    wanted: dict[tuple[int, int], int] = {}
    ends = [0, 0]
    for number, (agent, skipped, frames) in enumerate(steps):
        position = ends[agent] + 160 * skipped
        audio = frame(number) * frames
        (taken.tap.agent if agent else taken.tap.caller)(position, audio)
        wanted |= {(int(agent), position + at): value for at, value in enumerate(audio)}
        ends[agent] = position + len(audio)
    taken.tap.flush()
    found = {
        (run.track, run.position + at): value
        for run in taken.runs
        for at, value in enumerate(run.audio)
    }
    assert found == wanted
