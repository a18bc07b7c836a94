"""Real worker processes under a small supervisor that lives in the test.

    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = await harness.start_call(worker, voice.url)
        harness.connect_media(worker, leg)
        stream = await voice.stream()
        ...

The harness listens on the control socket, owns the port table, keeps its own copy of each
call's RTP socket as a supervisor does, and cleans all of it up. A traceback in a worker's log
fails the test.
"""

import asyncio
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, TypeVar

from shim import port_memory
from shim.control import (
    SOCKET_NAME,
    CallSpec,
    EndCall,
    FromWorker,
    Hello,
    MediaConnected,
    StartCall,
    ToWorker,
    decode_from_worker,
)
from shim.control_channel import ControlChannel
from shim.port_layout import Shape
from tests.shim.asterisk_media import LOOPBACK, AsteriskMedia
from tests.shim.polling import PATIENCE_S, until
from tests.shim.samples import call_spec

REPOSITORY: Final = Path(__file__).parents[2]
SHAPE: Final = Shape(20000, 20199, 4)
"""Of the port table. Sockets are bound to any free port: `CallSpec.port` only finds a record."""
ENVIRON: Final = {
    "STREAM_HANDSHAKE_TIMEOUT": "1",
    "STREAM_CONNECT_BUDGET": "2",
    "ORPHAN_GRACE": "5",
}

Message = TypeVar("Message")


class WorkerLink:
    """One control connection of a worker, from the supervisor's end."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.messages: list[FromWorker] = []
        self.passed: list[socket.socket] = []
        self.channel = ControlChannel(sock, decode_from_worker, self._on_message, self._on_closed)
        self.closed: str | None = None

    @property
    def hello(self) -> Hello | None:
        """The worker's first message, once it is there."""
        first = self.messages[0] if self.messages else None
        return first if isinstance(first, Hello) else None

    def of(self, kind: type[Message]) -> list[Message]:
        """The messages of one type so far."""
        return [message for message in self.messages if isinstance(message, kind)]

    def send_raw(self, data: bytes) -> None:
        """Send bytes that need not be a message."""
        self._sock.send(data)

    def close(self) -> None:
        """Close the connection, and the sockets that came over it."""
        self.channel.close()
        for sock in self.passed:
            sock.close()

    def _on_message(self, message: FromWorker, passed: socket.socket | None) -> None:
        self.messages.append(message)
        if passed is not None:
            self.passed.append(passed)

    def _on_closed(self, reason: str) -> None:
        self.closed = reason


class WorkerProcess:
    """One `python -m shim`. `link` is its newest control connection."""

    def __init__(self, index: int, process: "subprocess.Popen[bytes]", log_path: Path) -> None:
        self.index = index
        self.process = process
        self.link: WorkerLink
        self._log_path = log_path

    @property
    def log(self) -> str:
        """All that it has written, to standard output and standard error."""
        return self._log_path.read_text(encoding="utf-8")

    def send(self, message: ToWorker, passed: socket.socket | None = None) -> None:
        """Say something to it."""
        self.link.channel.send(message, passed)

    async def wait(
        self, kind: type[Message], count: int = 1, within_s: float = PATIENCE_S
    ) -> list[Message]:
        """Wait until it has sent so many messages of one type; returns all of them."""
        what = f"{count} {kind.__name__} of worker {self.index}\n{self.log}"
        await until(lambda: len(self.link.of(kind)) >= count, what, within_s)
        return self.link.of(kind)

    async def wait_exit(self, within_s: float = PATIENCE_S) -> int:
        """Wait for the process's end; returns its exit code."""
        await until(lambda: self.process.poll() is not None, "the worker's end", within_s)
        assert self.process.returncode is not None
        return self.process.returncode

    def kill(self, signum: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal."""
        self.process.send_signal(signum)

    def open_fds(self) -> int:
        """How many file descriptors it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory_bytes(self, field: str = "VmRSS") -> int:
        """Its resident memory now (VmRSS) or at its highest (VmHWM), as in proc(5), status."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith(f"{field}:"))
        return int(line.split()[1]) * 1024


class CallLeg:
    """A call: what the worker was told of it, the supervisor's RTP socket, Asterisk's end."""

    def __init__(self, call: CallSpec, rtp: socket.socket, asterisk: AsteriskMedia) -> None:
        self.call = call
        self.rtp = rtp
        self.asterisk = asterisk

    def close(self) -> None:
        """Let go of both sockets."""
        self.asterisk.close()
        self.rtp.close()


class WorkerHarness:
    """A supervisor for tests; `environ` goes to its workers on top of `ENVIRON`."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self.run_dir = Path(tempfile.mkdtemp(prefix="shim-"))
        self.memory = port_memory.create(self.run_dir / port_memory.FILE_NAME, SHAPE)
        self.workers: list[WorkerProcess] = []
        self.links: list[WorkerLink] = []
        self.legs: list[CallLeg] = []
        self._environ = {**ENVIRON, **(environ or {})}
        self._listener: socket.socket | None = None
        self._ports = itertools.count(SHAPE.start)

    async def __aenter__(self) -> "WorkerHarness":
        self.listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self.workers:
            worker.process.kill()
            worker.process.wait()
        self.stop_listening()
        for link in self.links:
            link.close()
        for leg in self.legs:
            leg.close()
        self.memory.close()
        logs = [worker.log for worker in self.workers]
        shutil.rmtree(self.run_dir)
        for log in logs:
            assert error is not None or "Traceback" not in log, log

    # The supervisor's end of the control connection

    def listen(self) -> None:
        """Accept workers, as a supervisor does from its start."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.setblocking(False)
        path = self.run_dir / SOCKET_NAME
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen()
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)
        self._listener = listener

    def stop_listening(self) -> None:
        """Stop accepting workers; what is connected stays."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def vanish(self) -> None:
        """Be gone as a supervisor that was killed: no listener, no connections."""
        self.stop_listening()
        for link in self.links:
            link.close()

    def _accept(self, listener: socket.socket) -> None:
        sock, _ = listener.accept()
        self.links.append(WorkerLink(sock))

    async def hello(self, index: int, after: int = 0, within_s: float = PATIENCE_S) -> WorkerLink:
        """Wait for the Hello of a worker; connections before number `after` don't count."""

        def look() -> WorkerLink | None:
            greeted = [link for link in self.links[after:] if link.hello is not None]
            return next((a for a in greeted if a.hello and a.hello.worker == index), None)

        return await until(look, f"Hello of worker {index}", within_s)

    # Workers

    def launch(self, index: int = 0, cpu: int | None = None) -> WorkerProcess:
        """Start a worker process, without waiting for anything."""
        cpus = sorted(os.sched_getaffinity(0))
        cpu = cpus[index % len(cpus)] if cpu is None else cpu
        log_path = self.run_dir / f"worker-{len(self.workers)}.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "shim", "--worker", str(index), "--cpu", str(cpu)],
                cwd=REPOSITORY,
                env={"PATH": os.environ["PATH"], "RUN_DIR": str(self.run_dir), **self._environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        worker = WorkerProcess(index, process, log_path)
        self.workers.append(worker)
        return worker

    async def spawn(self, index: int = 0) -> WorkerProcess:
        """Start a worker process and wait for its Hello."""
        before = len(self.links)
        worker = self.launch(index)
        worker.link = await self.hello(index, before)
        return worker

    # Calls

    def make_leg(self, url: str, **fields: object) -> CallLeg:
        """Bind a call's RTP socket and Asterisk's end of it. `fields` are `CallSpec`'s."""
        number = next(self._ports)
        rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        rtp.bind((LOOPBACK, 0))
        names = {"call_sid": f"CA{number:032x}", "stream_sid": f"MZ{number:032x}", "port": number}
        call = call_spec(**{"url": url, "epoch_ns": time.monotonic_ns(), **names, **fields})
        leg = CallLeg(call, rtp, AsteriskMedia(rtp.getsockname()))
        self.legs.append(leg)
        return leg

    def start_call(self, worker: WorkerProcess, url: str, **fields: object) -> CallLeg:
        """Hand a new call to a worker."""
        leg = self.make_leg(url, **fields)
        worker.send(StartCall(leg.call), leg.rtp)
        return leg

    def connect_media(self, worker: WorkerProcess, leg: CallLeg) -> None:
        """Connect the call's socket to Asterisk's media address, and tell the worker."""
        leg.rtp.connect(leg.asterisk.address)
        worker.send(MediaConnected(leg.call.call_sid))

    def connected_call(self, worker: WorkerProcess, url: str, **fields: object) -> CallLeg:
        """Hand a new call to a worker, media included."""
        leg = self.start_call(worker, url, **fields)
        self.connect_media(worker, leg)
        return leg

    def end_call(self, worker: WorkerProcess, leg: CallLeg) -> None:
        """Say that the call is over."""
        worker.send(EndCall(leg.call.call_sid, "hangup"))
