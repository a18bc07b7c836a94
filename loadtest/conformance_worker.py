"""One real worker process, and around it what it needs to serve calls.

    async with WorkerRig({"TWILIO_AUTH_TOKEN": "secret"}) as rig:
        leg = rig.start_call("ws://127.0.0.1:8081/media-stream")
        leg.speak(frame)

The rig plays the supervisor (port table, control socket, the binding of RTP sockets) and Asterisk
(one UDP socket per call, its arrivals stamped by the kernel).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, TypeVar

from loadtest.audio import SILENT_FRAME
from loadtest.conformance_report import Unmet
from loadtest.phone_media import ANCILLARY_BYTES, SO_TIMESTAMPNS, TIMESPEC
from loadtest.phone_rtp import Mouth, parse_rtp
from loadtest.recording import ReceivedPacket
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

CHECKOUT: Final = Path(__file__).parents[1]
PATIENCE_S: Final = 10.0
LOOK_AGAIN_S: Final = 0.003
MAX_DATAGRAM_BYTES: Final = 2048
PORTS: Final = Shape(20000, 20999, 1)
"""Records of the port table; the sockets themselves are bound to any free port."""
HOST: Final = "127.0.0.1"

T = TypeVar("T")


class RigError(Unmet):
    """The worker did not do what it had to; the text holds what it logged."""


class Leg:
    """One call as Asterisk sees it: a UDP socket, connected to the worker's.

    `on_packet` is called with each RTP packet that arrives; its `at_ns` is the kernel's time of
    arrival, on the wall clock (`time.time_ns`). By default packets are collected in `packets`.
    `malformed` counts what was no RTP.
    """

    def __init__(self, call: CallSpec, rtp: socket.socket) -> None:
        self.call = call
        self.rtp = rtp
        self.packets: list[ReceivedPacket] = []
        self.malformed = 0
        self.on_packet: Callable[[ReceivedPacket], None] = self.packets.append
        random = secrets.randbits
        self._mouth = Mouth(random(32), random(16), random(32), keep=False)
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        self._sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._sock.bind((HOST, 0))
        self._sock.connect(rtp.getsockname())
        rtp.connect(self._sock.getsockname())
        asyncio.get_running_loop().add_reader(self._sock, self._read)

    @property
    def heard(self) -> bytes:
        """The collected audio, silent frames left out."""
        return b"".join(p.payload for p in self.packets if p.payload != SILENT_FRAME)

    def speak(self, frame: bytes) -> None:
        """Send the caller's next 20 ms."""
        self._mouth.play(frame)
        self._sock.send(self._mouth.next_packet())

    def lose(self, frames: int) -> None:
        """The caller's next packets are lost on their way."""
        for _ in range(frames):
            self._mouth.next_packet()

    def close(self) -> None:
        """Give the sockets back."""
        asyncio.get_running_loop().remove_reader(self._sock)
        self._sock.close()
        self.rtp.close()

    def _read(self) -> None:
        while True:
            try:
                data, ancillary, _, _ = self._sock.recvmsg(MAX_DATAGRAM_BYTES, ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                continue  # the worker has closed its socket; packets of before may still be there
            ((_, _, stamp),) = ancillary
            seconds, nanoseconds = TIMESPEC.unpack(stamp)
            packet = parse_rtp(data, seconds * 1_000_000_000 + nanoseconds)
            if packet is None:
                self.malformed += 1
            else:
                self.on_packet(packet)


class WorkerRig:
    """A worker process under a supervisor that only does what it must.

    Args:
        environ: settings of the worker, as in `.env.example`.
        cpu: where the worker runs; by default on the first CPU that this process may use.
    """

    def __init__(self, environ: Mapping[str, str] | None = None, cpu: int | None = None) -> None:
        self.messages: list[FromWorker] = []
        self._environ = environ or {}
        self._cpu = min(os.sched_getaffinity(0)) if cpu is None else cpu
        self._numbers = itertools.count()
        self._owned: AsyncExitStack
        self._run_dir: Path
        self._process: subprocess.Popen[bytes]
        self._channel: ControlChannel[FromWorker]

    async def __aenter__(self) -> WorkerRig:
        async with AsyncExitStack() as owned:
            folder = tempfile.TemporaryDirectory(prefix="conformance-")
            self._run_dir = Path(owned.enter_context(folder))
            memory = port_memory.create(self._run_dir / port_memory.FILE_NAME, PORTS)
            owned.callback(memory.close)
            listener = owned.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            listener.setblocking(False)
            listener.bind(str(self._run_dir / SOCKET_NAME))
            listener.listen()
            self._process = self._launch()
            owned.callback(self._stop)
            sock = await self.until(lambda: _accept(listener), "a worker at the control socket")
            self._channel = ControlChannel(
                sock, decode_from_worker, self._on_message, self._on_lost
            )
            owned.callback(self._channel.close)
            await self.wait(Hello)
            self._owned = owned.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._owned.aclose()

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    def of(self, kind: type[T]) -> list[T]:
        """What the worker has said so far, of one type of message."""
        return [message for message in self.messages if isinstance(message, kind)]

    async def wait(self, kind: type[T], after: int = 0) -> list[T]:
        """Wait until the worker has said more than `after` of this; returns those beyond."""
        await self.until(lambda: len(self.of(kind)) > after, f"{kind.__name__} of the worker")
        return self.of(kind)[after:]

    async def until(self, look: Callable[[], T | None], what: str) -> T:
        """Wait for the first truthy answer; raises RigError when there is none in time."""
        deadline = time.monotonic() + PATIENCE_S
        while not (answer := look()):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RigError(what, f"nothing within {PATIENCE_S:g} s; its log:\n{self._log()}")
            await asyncio.sleep(LOOK_AGAIN_S)
        return answer

    def send(self, message: ToWorker) -> None:
        """Tell the worker something."""
        self._channel.send(message)

    def start_call(self, url: str, parameters: Mapping[str, str] | None = None) -> Leg:
        """Hand a new call to the worker, with a voice server's URL, its media connected."""
        port = PORTS.start + next(self._numbers) % PORTS.ports
        rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        rtp.bind((HOST, 0))
        call = CallSpec(
            call_sid=f"CA{secrets.token_hex(16)}",
            stream_sid=f"MZ{secrets.token_hex(16)}",
            account_sid=f"AC{secrets.token_hex(16)}",
            channel_id=f"{time.time():.1f}",
            port=port,
            url=url,
            epoch_ns=time.monotonic_ns(),
            ssrc=secrets.randbits(32),
            first_sequence=secrets.randbits(16),
            first_timestamp=secrets.randbits(32),
            custom_parameters=dict(parameters or {}),
        )
        leg = Leg(call, rtp)
        self._owned.callback(leg.close)
        self._channel.send(StartCall(call), rtp)
        self._channel.send(MediaConnected(call.call_sid))
        return leg

    def end_call(self, leg: Leg) -> None:
        """The caller has hung up."""
        self.send(EndCall(leg.call.call_sid, "hangup"))

    def _launch(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "shim", "--worker", "0", "--cpu", str(self._cpu)]
        with (self._run_dir / "worker.log").open("wb") as log:
            return subprocess.Popen(
                command,
                cwd=CHECKOUT,
                env={
                    "PATH": os.environ["PATH"],
                    **self._environ,
                    "RUN_DIR": str(self._run_dir),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _log(self) -> str:
        return (self._run_dir / "worker.log").read_text(errors="replace")

    def _on_message(self, message: FromWorker, passed: socket.socket | None) -> None:
        self.messages.append(message)

    def _on_lost(self, reason: str) -> None:
        """Who waits for the worker finds out that it has died."""


def _accept(listener: socket.socket) -> socket.socket | None:
    try:
        return listener.accept()[0]
    except BlockingIOError:
        return None
