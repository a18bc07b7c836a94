"""Call table, stream control, ports and pool as they are; workers are peers in the test's hands.

What Asterisk should do is only noted. A peer is a worker for the pool: it says Hello, has a
process (that only sleeps) for the pool to kill, and reads what is sent to it.
"""

import asyncio
import socket
import time
from contextlib import AsyncExitStack
from typing import Self

from shim.control import (
    MAX_MESSAGE_BYTES,
    CallClosed,
    CallStats,
    FromWorker,
    Hello,
    StartCall,
    ToWorker,
    decode_to_worker,
    encode,
)
from supervisor.calls import events as ev
from supervisor.calls.events import Command, Event
from supervisor.calls.state import Call, Leg, OnEnd
from supervisor.calls.table import CallTable, Rules
from supervisor.workers.admission import Limits
from supervisor.workers.media_ports import MediaPorts
from supervisor.workers.port_table import PortTable
from supervisor.workers.slot import Seat
from supervisor.workers.stream_control import StreamControl, StreamSettings
from tests.shim.polling import until
from tests.supervisor.worker_rig import Peer, PoolRig

PLENTY = Limits(max_calls=0, asterisk_ports=4000, fds=4000)
URL = "wss://voice.example/x"


class PeerWorker(Peer):
    """A worker in the test's hands. `received` are messages; a socket that came along is in
    `sockets` by the call's sid."""

    def __init__(self, rig: "StreamRig", process: asyncio.subprocess.Process) -> None:
        super().__init__(rig.workers.socket_path)
        self.process = process
        self.received: list[ToWorker] = []
        self.sockets: dict[str, socket.socket] = {}
        asyncio.get_running_loop().add_reader(self.socket, self._read)

    def close(self) -> None:
        """Die: for the pool the end of the connection is that. A second time does nothing."""
        if self.socket.fileno() < 0:
            return
        asyncio.get_running_loop().remove_reader(self.socket)
        self.socket.close()
        for sock in self.sockets.values():
            sock.close()

    def has(self, *messages: ToWorker) -> bool:
        """Whether it was told exactly this so far, in this order."""
        return self.received == list(messages)

    @property
    def started(self) -> list[StartCall]:
        """The calls that it was given."""
        return [message for message in self.received if isinstance(message, StartCall)]

    def send_with(self, message: FromWorker, passed: socket.socket) -> None:
        """Send a message and a socket."""
        socket.send_fds(self.socket, [encode(message)], [passed.fileno()])

    def _read(self) -> None:
        data, fds, _, _ = socket.recv_fds(self.socket, MAX_MESSAGE_BYTES, 1)
        if not data:
            self.close()
            return
        message = decode_to_worker(data)
        self.received.append(message)
        if isinstance(message, StartCall):
            self.sockets[message.call.call_sid] = socket.socket(fileno=fds[0])


class StreamRig:
    """Two slots without workers; `worker` gives one a peer."""

    def __init__(self, limits: Limits = PLENTY) -> None:
        self.workers = PoolRig()
        self.workers.environment["ORPHAN_GRACE"] = "never"  # workers of the pool's own can't start
        numbers = iter(range(1, 1000))
        rules = Rules(OnEnd.HANG_UP, OnEnd.CONTINUE, 10**10)
        self.table = CallTable(rules, lambda: f"CA{next(numbers):032x}")
        now_ns = time.monotonic_ns()
        ports = PortTable(self.workers.memory.layout, now_ns)
        self.ports = MediaPorts(ports, "127.0.0.1")
        settings = StreamSettings(
            URL, "", "AC0", {"tenant": "a"}, share_numbers=False, limits=limits
        )
        self.streams = StreamControl(settings, self.table, self.ports, self.happen)
        self.pool = self.streams.pool = self.workers.new_pool(self.streams)
        self.noted: list[Command] = []
        self.forgotten: list[Call] = []
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._exits.enter_async_context(self.workers)
        self._exits.callback(self.ports.close)
        await self.pool.start()
        slots = self.pool.slots
        await until(lambda: all(slot.state == "cannot start" for slot in slots), "empty slots")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def worker(self, index: int, *, seat: int = 0, calls: int = 0) -> PeerWorker:
        """A worker that says Hello; with `seat` 1 it is about to replace the one that is there."""
        process = await asyncio.create_subprocess_exec("sleep", "60")
        self._exits.push_async_callback(_end, process)
        peer = PeerWorker(self, process)
        self._exits.callback(peer.close)
        slot = self.pool.slots[index]
        if seat:
            slot.coming = Seat(seat, None, process.pid)
        self.workers.memory.layout.beat(index, seat, time.monotonic_ns() + 10**11)  # never stuck
        table_id = self.workers.memory.layout.table_id
        peer.send(Hello(index, seat, process.pid, [0], table_id, calls))
        await until(lambda: any(s.pid == process.pid and s.channel for s in slot.seats), "greeted")
        return peer

    async def die(self, index: int, peer: PeerWorker) -> None:
        """A worker dies, and its slot is free for the next one."""
        slot = self.pool.slots[index]
        peer.close()
        await until(lambda: not slot.takes_calls, "the loss is noticed")
        slot.current = None

    def replace(self, index: int) -> None:
        """The worker that is coming takes the slot over, as `WorkerPool.replace` does it."""
        slot = self.pool.slots[index]
        slot.leaving, slot.current, slot.coming = slot.current, slot.coming, None
        self.streams.on_worker_replaced(index)

    def happen(self, event: Event) -> None:
        """Let the table decide; commands for streams are carried out, the others noted."""
        for command in self.table.handle(event, time.monotonic_ns()):
            self._do(command)

    def end(self, call: Call) -> None:
        """The caller hangs up, and Asterisk removes all that the call has there."""
        self.happen(ev.CallerLeft(call.channel_id))
        for command in [c for c in self.noted if isinstance(c, ev.RemovePart)]:
            self.noted.remove(command)
            self.happen(ev.PartRemoved(command.call_sid, command.part))

    def new_call(self, channel_id: str = "caller", *, up: bool = True) -> Call:
        """A caller enters; with `up` the set-up is carried through."""
        self.happen(ev.CallerEntered(channel_id, "+15550100", "+15551234567"))
        call = self.table.find(channel_id)
        assert call is not None
        sid = call.call_sid
        if up:
            self.streams.connect_media(call, ("127.0.0.1", 9))
            made: list[Event] = [
                ev.BridgeCreated(sid),
                ev.MediaLegCreated(sid),
                ev.MediaLegEntered(sid),
            ]
            for event in [*made, *(ev.Joined(sid, leg) for leg in Leg)]:
                self.happen(event)
        return call

    def _do(self, command: Command) -> None:
        if isinstance(command, ev.Forget):
            self.forgotten.append(command.call)
            self.streams.forget(command.call_sid)
            return
        call = self.table.calls[command.call_sid]
        match command:
            case ev.Place():
                self.streams.place(call)
            case ev.OpenStream():
                self.streams.open(call)
            case ev.MoveStream():
                self.streams.move(call)
            case ev.CloseStream(reason=reason):
                self.streams.close(call, reason)
            case ev.PressDigit(digit=digit):
                self.streams.press_digit(call, digit)
            case _:
                self.noted.append(command)


def closed(call: Call) -> CallClosed:
    """What a worker answers to the end of a call."""
    return CallClosed(call.call_sid, CallStats(frames_out=1))


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()
