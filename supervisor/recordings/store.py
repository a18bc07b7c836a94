"""The recordings in a directory: which there are, which are over, and what is in them."""

import fcntl
import mmap
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

import msgspec

from shim.recording_format import (
    LAST_SUFFIX,
    SUFFIX,
    Header,
    RecordingFileError,
    Run,
    open_chunks,
    read_head,
)
from supervisor.recordings import timeline as recording_timeline
from supervisor.recordings.timeline import Survey

Unwrap: TypeAlias = Callable[[Header], bytes]
"""The data key of a file."""


class StoredRecording(msgspec.Struct, frozen=True):
    """One recording: the files that workers have written one after the other."""

    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """`<CallSid>.<start>`, unique for ever."""
        return ".".join(self.files[0].name.split(".")[:2])

    @property
    def call_sid(self) -> str:
        """Whose it is."""
        return self.name.partition(".")[0]

    @property
    def size_bytes(self) -> int:
        """How much room it takes."""
        return sum(path.stat().st_size for path in self.files)

    @property
    def changed_at(self) -> float:
        """When it was written last, in seconds of the wall clock."""
        return max(path.stat().st_mtime for path in self.files)

    def is_over(self, settle_s: float) -> bool:
        """Whether nothing more comes: its end is marked, or no worker has it for so long."""
        if self.files[-1].name.endswith(LAST_SUFFIX):
            return True
        if any(map(_is_locked, self.files)):
            return False
        return time.time() - self.changed_at >= settle_s

    def delete(self) -> None:
        """Delete its files, the last one first: what is left never looks like another whole."""
        for path in reversed(self.files):
            path.unlink(missing_ok=True)


def find(directory: Path) -> list[StoredRecording]:
    """All recordings, also those that go on, by name; raises OSError."""
    names = sorted(path for path in directory.iterdir() if path.name.endswith(SUFFIX))
    found = []
    for _, files in groupby(names, key=lambda path: path.name.partition(".")[0]):
        one: list[Path] = []
        for path in files:
            one.append(path)
            if path.name.endswith(LAST_SUFFIX):
                found.append(StoredRecording(tuple(one)))
                one = []
        if one:
            found.append(StoredRecording(tuple(one)))
    return found


class OpenRecording:
    """A recording's content, to be read as often as one likes.

    Raises (here and in reading):
        OSError, RecordingFileError, and what `unwrap` raises.
    """

    def __init__(self, recording: StoredRecording, unwrap: Unwrap) -> None:
        self._files = recording.files
        self._unwrap = unwrap
        self.header, _ = read_head(_mapped(self._files[0]))

    def survey(self) -> Survey:
        """See it whole, with the hash of its WAV."""
        seen = recording_timeline.survey(self._runs(), self.header.start)
        digest = recording_timeline.sha256(self.wav(seen))
        return msgspec.structs.replace(seen, sha256=digest)

    def wav(self, seen: Survey) -> Iterator[bytes]:
        """Its WAV, in pieces; the same bytes each time."""
        return recording_timeline.wav(self._runs(), self.header.start, seen.samples)

    def _runs(self) -> Iterator[Run]:
        for path in self._files:
            data = _mapped(path)
            header, _ = read_head(data)
            if header.call_sid != self.header.call_sid:
                raise RecordingFileError(f"{path.name} is of the call {header.call_sid}")
            for chunk in open_chunks(data, self._unwrap(header)):
                yield from chunk.runs


def _mapped(path: Path) -> memoryview:
    """The file's content; it is unmapped when nobody refers to it any more."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _is_locked(path: Path) -> bool:
    """Whether a living worker has the file."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
