"""Recordings of tests: a key, and what workers have written."""

from base64 import b64encode
from pathlib import Path

from shim.pcmu import FRAME_BYTES
from shim.recording_format import Run, Track, open_chunks, read_head
from shim.recording_keys import WrappingKey

KEY = WrappingKey(bytes(range(32)))


def settings(directory: Path) -> dict[str, str]:
    """What a process needs to record into `directory`, with `KEY` in a file beside it."""
    directory.mkdir(exist_ok=True)
    key_file = directory.with_name("recording.key")
    key_file.touch(mode=0o600)
    key_file.write_bytes(b64encode(KEY.secret))
    return {"RECORDING_DIR": str(directory), "RECORDING_KEY_FILE": str(key_file)}


def files(directory: Path, suffix: str = ".rec") -> list[Path]:
    """Its recordings."""
    return sorted(path for path in directory.iterdir() if path.name.endswith(suffix))


def numbers(path: Path) -> list[int]:
    """The indices of a file's chunks."""
    data = memoryview(path.read_bytes())
    return [chunk.number for chunk in open_chunks(data, _data_key(data))]


def runs(path: Path) -> list[Run]:
    """What is in a file."""
    data = memoryview(path.read_bytes())
    return [run for chunk in open_chunks(data, _data_key(data)) for run in chunk.runs]


def frames(found: list[Run], track: Track) -> dict[int, bytes]:
    """A track's frames of 160 bytes by position."""
    return {
        run.position + at: run.audio[at : at + FRAME_BYTES]
        for run in found
        if run.track == track
        for at in range(0, len(run.audio), FRAME_BYTES)
    }


def _data_key(data: memoryview) -> bytes:
    header, _ = read_head(data)
    return KEY.unwrap(header.wrapped_key)
