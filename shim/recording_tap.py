"""Collects what both sides of a call say, second by second. Pure.

A call session puts each frame into the tap as it is sent or received, which costs an append to a
list. Positions are samples since the call's epoch, which all workers of a call share, so its tracks
stay aligned over gaps and from one worker to the next.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

from shim.pcmu import BYTES_PER_MS, FRAME_BYTES
from shim.recording_format import Track

CHUNK_FRAMES: Final = 50
"""The agent's frames in one chunk: the second that is lost when the worker is killed."""
MAX_CALLER_BYTES: Final = 4 * CHUNK_FRAMES * FRAME_BYTES
"""A flood of packets from Asterisk makes chunks come sooner, not larger."""
SLACK: Final = BYTES_PER_MS
"""Positions are known to the millisecond: a smaller step is no gap."""

Runs: TypeAlias = list[tuple[int, int, list[bytes]]]
"""Track, position, and the frames from there on."""


class RecordingTap:
    """Cuts the frames of one call into chunks, and gives each to `hand_over`."""

    __slots__ = ("_agent_frames", "_caller_bytes", "_hand_over", "_open", "_runs")

    def __init__(self, hand_over: Callable[[Runs], None]) -> None:
        self._hand_over = hand_over
        self._runs: Runs = []
        self._open = [_OpenRun(), _OpenRun()]
        self._agent_frames = 0
        self._caller_bytes = 0

    def caller(self, position: int, audio: bytes) -> None:
        """What the caller said, of any length."""
        self._add(Track.CALLER, position, audio)
        self._caller_bytes += len(audio)
        if self._caller_bytes >= MAX_CALLER_BYTES:
            self.flush()

    def agent(self, position: int, frame: bytes) -> None:
        """What the caller hears."""
        self._add(Track.AGENT, position, frame)
        self._agent_frames += 1
        if self._agent_frames >= CHUNK_FRAMES:
            self.flush()

    def flush(self) -> None:
        """Hand over what there is."""
        self._agent_frames = self._caller_bytes = 0
        runs, self._runs = self._runs, []
        for track in self._open:
            track.frames = None
        if runs:
            self._hand_over(runs)

    def _add(self, track: int, position: int, audio: bytes) -> None:
        run = self._open[track]
        if not -SLACK < position - run.end < SLACK:
            run.end, run.frames = position, None
        if run.frames is None:
            run.frames = [audio]
            self._runs.append((track, run.end, run.frames))
        else:
            run.frames.append(audio)
        run.end += len(audio)


class _OpenRun:
    """Where a track is: the position after its last frame, and the frames of this chunk's run."""

    __slots__ = ("end", "frames")

    def __init__(self) -> None:
        self.end = -SLACK
        self.frames: list[bytes] | None = None


def joined(runs: Runs) -> list[tuple[int, int, bytes]]:
    """The runs as the file has them: track, position, audio."""
    return [(track, position, b"".join(frames)) for track, position, frames in runs]
