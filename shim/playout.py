"""What waits to be played to a caller: audio in order, with marks in between.

Pure. The voice server pushes audio in pieces of any size; the pacer pulls one frame per tick.
A mark stands behind the audio that was pushed before it and passes when that audio is gone:
played, or thrown away by `clear` (Twilio, Media Streams WebSocket messages, mark and clear).
"""

from collections import deque

import msgspec

from shim.pcmu import BYTES_PER_MS, FRAME_BYTES, SILENCE


class PassedMark(msgspec.Struct, frozen=True):
    """A mark whose turn came.

    `played_ms` and `cleared_ms` say what became of the audio between the mark before it and
    this one: how much of it was sent to the caller, and how much was thrown away.
    """

    name: str
    played_ms: int
    cleared_ms: int


class Playout:
    """The audio queue of one call. Sizes are bytes of µ-law audio, 8 per millisecond."""

    __slots__ = ("_frames", "_marks", "_reported", "_tail", "cleared_bytes", "played_bytes")

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque()  # whole frames
        self._tail = b""  # behind them, less than a frame
        self._marks: deque[tuple[str, int]] = (
            deque()
        )  # name, and the position behind which it stands
        self._reported = (0, 0)  # played and cleared bytes at the last mark that passed
        self.played_bytes = 0
        self.cleared_bytes = 0

    @property
    def queued_bytes(self) -> int:
        """How much audio waits."""
        return len(self._frames) * FRAME_BYTES + len(self._tail)

    @property
    def queued_frames(self) -> int:
        """How many whole frames wait."""
        return len(self._frames)

    @property
    def pending_marks(self) -> int:
        """How many marks have not passed yet."""
        return len(self._marks)

    def push(self, audio: bytes) -> int:
        """Append audio of any length; returns how many whole frames wait now."""
        if len(audio) == FRAME_BYTES and not self._tail:
            self._frames.append(audio)
            return len(self._frames)
        audio = self._tail + audio
        whole = len(audio) - len(audio) % FRAME_BYTES
        self._frames.extend(
            [audio[start : start + FRAME_BYTES] for start in range(0, whole, FRAME_BYTES)]
        )
        self._tail = audio[whole:]
        return len(self._frames)

    def pull(self) -> bytes | None:
        """Take the next frame of 160 bytes; None when nothing waits.

        A last piece behind which nothing follows is filled up with silence.
        """
        if self._frames:
            self.played_bytes += FRAME_BYTES
            return self._frames.popleft()
        if self._tail:
            tail, self._tail = self._tail, b""
            self.played_bytes += len(tail)
            return tail.ljust(FRAME_BYTES, SILENCE)
        return None

    def mark(self, name: str) -> None:
        """Set a mark behind all audio pushed so far; `passed` tells when it is due."""
        self._marks.append((name, self.played_bytes + self.cleared_bytes + self.queued_bytes))

    def passed(self) -> list[PassedMark]:
        """Take the marks whose audio is gone, in their order."""
        passed = []
        while self._marks and self._marks[0][1] <= self.played_bytes + self.cleared_bytes:
            passed.append(self._pass_first())
        return passed

    def clear(self) -> list[PassedMark]:
        """Throw away all audio; returns the marks that waited, in their order."""
        passed = self.passed()  # their audio was played: they have nothing to do with this
        end = self.played_bytes + self.cleared_bytes + self.queued_bytes
        self._frames.clear()
        self._tail = b""
        while self._marks:
            self.cleared_bytes = self._marks[0][1] - self.played_bytes
            passed.append(self._pass_first())
        self.cleared_bytes = end - self.played_bytes
        return passed

    def _pass_first(self) -> PassedMark:
        name, _ = self._marks.popleft()
        played, cleared = self._reported
        self._reported = (self.played_bytes, self.cleared_bytes)
        return PassedMark(
            name,
            (self.played_bytes - played) // BYTES_PER_MS,
            (self.cleared_bytes - cleared) // BYTES_PER_MS,
        )
