"""A worker pool with real worker processes, and peers of its control socket that misbehave."""

import asyncio
import contextlib
import os
import shutil
import socket
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from shim import port_memory
from shim.control import SOCKET_NAME, FromWorker, ToWorker, decode_to_worker, encode
from shim.port_layout import Shape
from supervisor.workers.health import Backoff
from supervisor.workers.pool import PoolListener, PoolSettings, WorkerPool
from tests.shim.polling import PATIENCE_S, until

SHAPE = Shape(28_100, 28_115, workers=2)
CPUS = tuple(sorted(os.sched_getaffinity(0)))
QUICK = Backoff(first_s=0.05, most_s=0.2, park_after=4)
MAX_READ = 100_000


class Listener:
    """The pool's owner: notes what it is told, with the time."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []
        self.lost_at: list[float] = []
        self.messages: list[tuple[int, FromWorker]] = []

    def on_worker_ready(self, worker: int) -> None:
        self.heard.append(("ready", worker))

    def on_worker_lost(self, worker: int) -> None:
        self.heard.append(("lost", worker))
        self.lost_at.append(time.monotonic())

    def on_worker_replaced(self, worker: int) -> None:
        self.heard.append(("replaced", worker))

    def on_worker_dismissed(self, worker: int) -> None:
        self.heard.append(("dismissed", worker))

    def on_worker_message(
        self, worker: int, message: FromWorker, passed: socket.socket | None
    ) -> None:
        self.messages.append((worker, message))
        if passed is not None:
            passed.close()


class Peer:
    """The other end of the control socket, in the test's hands."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.setblocking(False)
        self.socket.connect(str(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, message: FromWorker | ToWorker | bytes) -> None:
        self.socket.send(message if isinstance(message, bytes) else encode(message))

    async def receive(self) -> ToWorker | None:
        """The next message; None once the connection is closed."""
        async with asyncio.timeout(PATIENCE_S):
            data = await asyncio.get_running_loop().sock_recv(self.socket, MAX_READ)
        return decode_to_worker(data) if data else None


class PoolRig:
    """A pool of two workers in a run directory of its own; leaving it ends all that is left.

    `pool` is not started yet. `pids` are all worker processes that were ever seen.
    """

    def __init__(
        self,
        *,
        backoff: Backoff = QUICK,
        hello_timeout_s: float = 15.0,
        stop_timeout_s: float = 3.5,
    ) -> None:
        self.run_dir = Path(tempfile.mkdtemp(prefix="ots-pool-"))
        self.memory = port_memory.create(self.run_dir / port_memory.FILE_NAME, SHAPE)
        self.socket_path = self.run_dir / SOCKET_NAME
        self.environment = {
            **os.environ,
            "RUN_DIR": str(self.run_dir),
            "LOG_LEVEL": "ERROR",
            "ORPHAN_GRACE": "5",
        }
        self.settings = PoolSettings(
            self.run_dir,
            tuple(CPUS[index % len(CPUS)] for index in range(SHAPE.workers)),
            self.environment,
            backoff,
            hello_timeout_s,
            stop_timeout_s,
        )
        self.pids: set[int] = set()
        self.owner = Listener()
        self.pool = self.new_pool()

    def new_pool(self, owner: PoolListener | None = None) -> WorkerPool:
        """Another pool on the same run directory, as after a restart of the supervisor."""
        self.owner = Listener()
        self.pool = WorkerPool(self.settings, self.memory.layout, owner or self.owner)
        return self.pool

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.note_pids()
        await self.pool.stop()
        self.memory.close()
        shutil.rmtree(self.run_dir)
        if error is None:
            await until(lambda: not self.alive(), "all workers are gone")

    def note_pids(self) -> list[int]:
        """The processes of the slots, which must be gone at the end."""
        pids = [slot.pid for slot in self.pool.slots]
        self.pids.update(pid for pid in pids if pid)
        return pids

    def alive(self) -> list[int]:
        """The workers ever seen that still run."""
        return [pid for pid in self.pids if is_alive(pid)]

    async def ready(self) -> list[int]:
        """Wait until all workers take calls; their process ids."""
        await until(lambda: all(slot.takes_calls for slot in self.pool.slots), "workers ready")
        return self.note_pids()

    async def replaced(self, worker: int, pid: int) -> int:
        """Wait until another process than `pid` serves the slot."""
        slot = self.pool.slots[worker]
        await until(lambda: slot.takes_calls and slot.pid != pid, f"worker {worker} replaced")
        self.note_pids()
        return slot.pid


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie doesn't."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
