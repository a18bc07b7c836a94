"""What a worker and its recorder say to each other. Pure.

One message is one datagram of a Unix SEQPACKET connection, encoded as MessagePack.
"""

from enum import Enum
from typing import Final

import msgspec

from shim.control import RecordingStats

MAX_MESSAGE_BYTES: Final = 128 * 1024
"""Well above what a tap puts into a chunk, and below what a Unix socket takes at once."""


class Closing(Enum):
    """Why a file is closed: the recording is over, or another worker goes on with it."""

    FINAL = "final"
    HANDED_ON = "handed on"


class RecordedChunk(msgspec.Struct, frozen=True, array_like=True):
    """The next runs of a call's recording: track, position, audio.

    `epoch_at` is the wall clock's time of position 0, in seconds. `closing`: nothing follows.
    """

    call_sid: str
    account_sid: str
    epoch_at: float
    runs: list[tuple[int, int, bytes]]
    closing: Closing | None = None


_encoder = msgspec.msgpack.Encoder()
_chunk = msgspec.msgpack.Decoder(RecordedChunk)
_stats = msgspec.msgpack.Decoder(RecordingStats)


def encode(message: RecordedChunk | RecordingStats) -> bytes:
    """Encode one message."""
    return _encoder.encode(message)


def decode_chunk(data: bytes) -> RecordedChunk:
    """Decode what the worker says; raises msgspec.DecodeError."""
    return _chunk.decode(data)


def decode_stats(data: bytes) -> RecordingStats:
    """Decode what the recorder says; raises msgspec.DecodeError."""
    return _stats.decode(data)
