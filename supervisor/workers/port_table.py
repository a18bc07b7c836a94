"""Which RTP port belongs to which call: FIFO reuse, quarantine, one slice per worker.

Pure, on top of the shared-memory layout. A port that was freed rests, so that late packets of
its last call never reach the next one; the port that has rested longest is taken first.
"""

from collections import deque
from typing import Final

from shim.port_layout import Lease, PortLayout, PortState

QUARANTINE_NS: Final = 30_000_000_000
SHORT_QUARANTINE_NS: Final = 2_000_000_000
"""Rest of a port when its slice has no other: far longer than a packet is under way."""


class PortTable:
    """Leases ports. Times are monotonic nanoseconds."""

    def __init__(self, layout: PortLayout, now_ns: int) -> None:
        self._layout = layout
        workers = layout.shape.workers
        self._free: list[deque[int]] = [deque() for _ in range(workers)]
        self._resting: list[deque[tuple[int, int]]] = [deque() for _ in range(workers)]
        self._leased: dict[int, Lease] = {}
        for worker in range(workers):
            for port in self.slice(worker):
                self._read(worker, port, now_ns)
            self._resting[worker] = deque(sorted(self._resting[worker]))

    def slice(self, worker: int) -> range:
        """The ports of a worker: an equal share, the first workers get what is left over."""
        shape = self._layout.shape
        first = shape.start + worker * shape.ports // shape.workers
        last = shape.start + (worker + 1) * shape.ports // shape.workers
        return range(first, last)

    def lease(self, worker: int, call_sid: str, now_ns: int) -> int | None:
        """Give a port of the worker's slice to a call; None when all are leased or too fresh."""
        self._wake(worker, QUARANTINE_NS, now_ns)
        if not self._free[worker]:
            self._wake(worker, SHORT_QUARANTINE_NS, now_ns)
        if not self._free[worker]:
            return None
        port = self._free[worker].popleft()
        generation = self._layout.lease(port).generation + 1
        lease = Lease(PortState.LEASED, worker, generation, 0, call_sid)
        self._layout.reset_frames(port)
        self._layout.write_lease(port, lease)
        self._leased[port] = lease
        return port

    def adopt(self, port: int, worker: int, call_sid: str) -> None:
        """Take a port as leased that a worker holds from an earlier supervisor."""
        for queue in self._free:
            if port in queue:
                queue.remove(port)
        for resting in self._resting:
            for entry in [entry for entry in resting if entry[1] == port]:
                resting.remove(entry)
        generation = self._layout.lease(port).generation
        self._leased[port] = Lease(PortState.LEASED, worker, generation, 0, call_sid)
        self._layout.write_lease(port, self._leased[port])

    def release(self, port: int, now_ns: int) -> None:
        """Take a port back and let it rest; a port that isn't leased is left alone."""
        lease = self._leased.pop(port, None)
        if lease is None:
            return
        owner = self._owner(port)
        rest = Lease(PortState.QUARANTINED, owner, lease.generation, now_ns, "")
        self._layout.write_lease(port, rest)
        self._resting[owner].append((now_ns, port))

    def counts(self, worker: int) -> dict[str, int]:
        """How many ports of a slice are in which state."""
        ports = self.slice(worker)
        return {
            "free": len(self._free[worker]),
            "leased": sum(port in ports for port in self._leased),
            "quarantined": len(self._resting[worker]),
        }

    def cells(self, worker: int, most: int) -> list[tuple[int, int]]:
        """A slice in at most so many pieces of equal size, the last may be smaller: how many ports
        of each are leased, and how many are at rest."""
        ports = self.slice(worker)
        size = max(1, -(-len(ports) // most))
        found = [[0, 0] for _ in range(-(-len(ports) // size))]
        for port in self._leased:
            if port in ports:
                found[(port - ports[0]) // size][0] += 1
        for _, port in self._resting[worker]:
            found[(port - ports[0]) // size][1] += 1
        return [(leased, resting) for leased, resting in found]

    def unclaimed(self) -> list[int]:
        """Ports that an earlier supervisor leased and no worker has claimed."""
        return [port for port, lease in self._leased.items() if lease.worker < 0]

    def _read(self, worker: int, port: int, now_ns: int) -> None:
        """Take over what the table says: after a restart it is not empty."""
        lease = self._layout.lease(port)
        if lease.state is PortState.FREE:
            self._free[worker].append(port)
        elif lease.state is PortState.QUARANTINED:
            self._resting[worker].append((min(lease.freed_ns, now_ns), port))
        else:
            self._leased[port] = Lease(lease.state, -1, lease.generation, 0, lease.call_sid)

    def _wake(self, worker: int, rest_ns: int, now_ns: int) -> None:
        resting = self._resting[worker]
        while resting and resting[0][0] + rest_ns <= now_ns:
            _, port = resting.popleft()
            lease = self._layout.lease(port)
            self._layout.write_lease(
                port, Lease(PortState.FREE, worker, lease.generation, lease.freed_ns, "")
            )
            self._free[worker].append(port)

    def _owner(self, port: int) -> int:
        shape = self._layout.shape
        return next(worker for worker in range(shape.workers) if port in self.slice(worker))
