"""Where recordings are written to, and how."""

from pathlib import Path

import msgspec

from shim.recording_keys import WrappingKey


class RecordingSettings(msgspec.Struct, frozen=True):
    """Where recordings go, and what seals them. A directory that is full takes no new ones."""

    directory: Path
    key: WrappingKey
    max_bytes: int
