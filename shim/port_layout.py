"""The layout of the shared-memory port table.

Pure: it works on any writable buffer. One writer per field, so there are no locks: the
supervisor writes who holds a port, the worker writes how far the port's stream is and its own
heartbeat. All words are 64 bits wide and aligned, so a reader never sees half of a write.

The file: one header, one record of 64 bytes per worker, one of 128 bytes per port. A worker's
record has a heartbeat for each of its two seats: while a worker is being replaced, the old and
the new process are alive.
"""

import struct
from enum import IntEnum
from typing import Final

import msgspec

MAGIC: Final = b"OTSPORTS"
VERSION: Final = 1

_HEADER: Final = struct.Struct("<8sIIIIQQ")
_HEADER_BYTES: Final = 64
_WORKER_BYTES: Final = 64
_PORT_BYTES: Final = 128
_WORD: Final = 8

# Port record: the first cache line is the supervisor's, the second the worker's.
_LEASE: Final = struct.Struct("<BxHIQ34s")
_FRAMES_OUT: Final = 64
_STREAM_WORDS: Final = 3
SEATS: Final = 2
"""Processes that may serve a worker's slot at the same time. Its record begins with their
heartbeats."""


class LayoutError(ValueError):
    """The memory is no port table of this version."""


class PortState(IntEnum):
    """FREE can be leased; QUARANTINED rests until late packets of its last call are gone."""

    FREE = 0
    LEASED = 1
    QUARANTINED = 2


class Lease(msgspec.Struct, frozen=True):
    """The supervisor's half of a port record. `freed_ns` is monotonic, 0 if never freed."""

    state: PortState
    worker: int
    generation: int
    freed_ns: int
    call_sid: str


class Shape(msgspec.Struct, frozen=True):
    """What a table is for: ports `start` to `end` inclusive, `workers` slices."""

    start: int
    end: int
    workers: int

    @property
    def ports(self) -> int:
        """The number of ports."""
        return self.end - self.start + 1

    @property
    def size_bytes(self) -> int:
        """The size of the table's memory."""
        return _HEADER_BYTES + self.workers * _WORKER_BYTES + self.ports * _PORT_BYTES


class PortLayout:
    """Reads and writes the fields of a table.

    Args:
        buffer: writable memory of `Shape.size_bytes`, for example an mmap.

    Raises:
        LayoutError: the buffer holds no table.
    """

    def __init__(self, buffer: memoryview) -> None:
        self.shape, self.table_id = _read_header(buffer)
        self._bytes = buffer
        self._words = buffer.cast("Q")
        self._ports_at = _HEADER_BYTES + self.shape.workers * _WORKER_BYTES

    def release(self) -> None:
        """Let go of the buffer, so that its memory can be unmapped."""
        self._words.release()
        self._bytes.release()

    def lease(self, port: int) -> Lease:
        """Read who holds the port."""
        state, worker, generation, freed_ns, call = _LEASE.unpack_from(self._bytes, self._at(port))
        sid = call.rstrip(b"\0").decode("ascii")
        return Lease(PortState(state), worker, generation, freed_ns, sid)

    def write_lease(self, port: int, lease: Lease) -> None:
        """Write who holds the port (supervisor only)."""
        _LEASE.pack_into(
            self._bytes,
            self._at(port),
            lease.state,
            lease.worker,
            lease.generation,
            lease.freed_ns,
            lease.call_sid.encode("ascii"),
        )

    def frames_out(self, port: int) -> int:
        """How many RTP packets the port's stream has sent."""
        return self._words[(self._at(port) + _FRAMES_OUT) // _WORD]

    def reset_frames(self, port: int) -> None:
        """Set the worker's words of the port to 0, before a new call starts (supervisor only)."""
        words = self.stream_words(port)
        for index in range(len(words)):
            words[index] = 0

    def stream_words(self, port: int) -> memoryview:
        """The worker's words of a port, unsigned 64 bit: frames sent, frames received, pacer slot.

        The slot is written as its number plus 1; 0 stands for none yet.
        """
        first = (self._at(port) + _FRAMES_OUT) // _WORD
        return self._words[first : first + _STREAM_WORDS]

    def heartbeat_ns(self, worker: int, seat: int) -> int:
        """The monotonic time at which a worker's loop was last seen alive."""
        return self._words[self._heartbeat_word(worker, seat)]

    def beat(self, worker: int, seat: int, now_ns: int) -> None:
        """Write a worker's heartbeat."""
        self._words[self._heartbeat_word(worker, seat)] = now_ns

    def _at(self, port: int) -> int:
        if not self.shape.start <= port <= self.shape.end:
            raise IndexError(f"port {port} is not in {self.shape.start}..{self.shape.end}")
        return self._ports_at + (port - self.shape.start) * _PORT_BYTES

    def _heartbeat_word(self, worker: int, seat: int) -> int:
        if not (0 <= worker < self.shape.workers and 0 <= seat < SEATS):
            raise IndexError(f"there is no seat {seat} of worker {worker}")
        return (_HEADER_BYTES + worker * _WORKER_BYTES) // _WORD + seat


def initialize(buffer: memoryview, shape: Shape, table_id: int) -> PortLayout:
    """Make a table of zeroed memory: all ports are free. `table_id` tells tables apart."""
    size_bytes = shape.size_bytes
    _HEADER.pack_into(
        buffer, 0, MAGIC, VERSION, shape.start, shape.end, shape.workers, size_bytes, table_id
    )
    return PortLayout(buffer)


def _read_header(buffer: memoryview) -> tuple[Shape, int]:
    if len(buffer) < _HEADER_BYTES:
        raise LayoutError(f"{len(buffer)} bytes are no port table")
    magic, version, start, end, workers, size_bytes, table_id = _HEADER.unpack_from(buffer)
    if magic != MAGIC or version != VERSION:
        raise LayoutError(f"magic {magic!r} version {version} instead of {MAGIC!r} {VERSION}")
    shape = Shape(start, end, workers)
    if shape.size_bytes != size_bytes or len(buffer) < size_bytes:
        raise LayoutError(f"{len(buffer)} bytes for a table that needs {shape.size_bytes}")
    return shape, table_id
