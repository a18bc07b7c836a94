"""The file that a recording is kept in: what is in the clear, and sealed chunks. Pure.

    magic, 8 bytes | length of the header, u32 | header, JSON | chunk | chunk | ...
    chunk: length of what is sealed, u32 | index, u64 | what is sealed

All numbers are little-endian. A chunk is sealed with AES-256-GCM (NIST SP 800-38D): the nonce is
its index, and the SHA-256 of all before the first chunk is authenticated with it. So chunks can't
be moved between files or places, and a chunk that is missing shows as an index that is left out.
Inside are runs of audio, each with its track and position. The last chunk of a recording is an END
run: a file without one was cut off, or another file of the same call goes on.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Final, NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC: Final = b"OTSREC\x00\x01"
SUFFIX: Final = ".rec"
LAST_SUFFIX: Final = ".last.rec"
"""The file that ends a recording is given this one at its end."""
_LENGTH: Final = struct.Struct("<I")
_CHUNK: Final = struct.Struct("<IQ")
_RUN: Final = struct.Struct("<BQI")
NONCE_BYTES: Final = 12
MAX_HEADER_BYTES: Final = 64 * 1024
MAX_CHUNK_BYTES: Final = 1 << 24


class RecordingFileError(ValueError):
    """The file is no recording, or was altered."""


class Track(IntEnum):
    """Whose audio a run is; END is none, its position is where the recording ends."""

    CALLER = 0
    AGENT = 1
    END = 2


class Run(NamedTuple):
    """µ-law audio without a break. `position`: samples since the call's epoch."""

    track: int
    position: int
    audio: bytes


class Header(msgspec.Struct, frozen=True):
    """What a file says in the clear.

    `start` is the position at which it begins, `started_at` the wall clock's time of that (ISO
    8601, UTC). `wrapped_key` is the data key, wrapped by the key `key_id`.
    """

    call_sid: str
    account_sid: str
    start: int
    started_at: str
    key_id: str
    wrapped_key: bytes
    kms_ciphertext: bytes = b""


class Chunk(NamedTuple):
    """A chunk that was opened, with its index."""

    number: int
    runs: list[Run]


class Sealer:
    """Seals one file's chunks. `head` is what the file begins with."""

    def __init__(self, header: Header, data_key: bytes) -> None:
        self.head = pack_head(header)
        self._digest = hashlib.sha256(self.head).digest()
        self._cipher = AESGCM(data_key)
        self._index = 0

    def seal(self, runs: Iterable[Run]) -> bytes:
        """The next chunk. Its index is used up even if the chunk can't be written."""
        index, self._index = self._index, self._index + 1
        sealed = self._cipher.encrypt(nonce(index), pack_runs(runs), self._digest)
        return _CHUNK.pack(len(sealed), index) + sealed


def file_name(call_sid: str, start: int) -> str:
    """A call's files sort by their start, in samples."""
    return f"{call_sid}.{start:012d}{SUFFIX}"


def nonce(index: int) -> bytes:
    """The nonce of a chunk."""
    return index.to_bytes(NONCE_BYTES, "big")


def pack_head(header: Header) -> bytes:
    """All that stands before the first chunk."""
    encoded = msgspec.json.encode(header)
    return MAGIC + _LENGTH.pack(len(encoded)) + encoded


def read_head(data: memoryview) -> tuple[Header, int]:
    """The header, and where the first chunk begins; raises RecordingFileError."""
    at = len(MAGIC) + _LENGTH.size
    if bytes(data[: len(MAGIC)]) != MAGIC or len(data) < at:
        raise RecordingFileError("it does not begin as a recording does")
    (length,) = _LENGTH.unpack_from(data, len(MAGIC))
    if length > MAX_HEADER_BYTES or at + length > len(data):
        raise RecordingFileError("its header is cut off")
    try:
        return msgspec.json.decode(data[at : at + length], type=Header), at + length
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordingFileError(f"its header is unreadable: {error}") from error


def open_chunks(data: memoryview, data_key: bytes) -> Iterator[Chunk]:
    """The chunks of a file in order, to its end or to where a crash has cut it off.

    Raises:
        RecordingFileError: a chunk was altered, or stands where it doesn't belong.
    """
    _, at = read_head(data)
    digest = hashlib.sha256(data[:at]).digest()
    cipher = AESGCM(data_key)
    before = -1
    while (chunk := _sealed_at(data, at)) is not None:
        index, sealed = chunk
        if index <= before:
            raise RecordingFileError(f"the chunk at byte {at} has index {index} after {before}")
        try:
            opened = cipher.decrypt(nonce(index), sealed, digest)
        except InvalidTag as error:
            raise RecordingFileError(f"the chunk at byte {at} was altered") from error
        yield Chunk(index, list(unpack_runs(opened)))
        before = index
        at += _CHUNK.size + len(sealed)


def _sealed_at(data: memoryview, at: int) -> tuple[int, memoryview] | None:
    """A chunk's index and what is sealed; None where the file ends, be it in the middle of one."""
    if at + _CHUNK.size > len(data):
        return None
    length, index = _CHUNK.unpack_from(data, at)
    begin = at + _CHUNK.size
    if length == 0 or begin + length > len(data):  # a file system may leave zeros after a crash
        return None
    if length > MAX_CHUNK_BYTES:
        raise RecordingFileError(f"the chunk at byte {at} claims {length} bytes")
    return index, data[begin : begin + length]


def pack_runs(runs: Iterable[Run]) -> bytes:
    """What is sealed in a chunk."""
    parts: list[bytes] = []
    for track, position, audio in runs:
        parts += (_RUN.pack(track, position, len(audio)), audio)
    return b"".join(parts)


def unpack_runs(data: bytes) -> Iterator[Run]:
    """The runs of a chunk; raises RecordingFileError."""
    at = 0
    while at < len(data):
        if at + _RUN.size > len(data):
            raise RecordingFileError("a run is cut off")
        track, position, length = _RUN.unpack_from(data, at)
        at += _RUN.size
        if at + length > len(data):
            raise RecordingFileError("a run is cut off")
        yield Run(track, position, data[at : at + length])
        at += length
