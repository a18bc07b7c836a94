"""The RTP sockets of all calls of a phone: one pacer sends each call's frames and empties its port.

What measures must not blur: frames leave on absolute deadlines, arrivals carry the kernel's time
stamp (of when a packet came in, not of when Python got round to it), and how late the pacer ever
was goes into each call's record.
"""

from __future__ import annotations

import asyncio
import errno
import random
import secrets
import socket
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType

from loadtest.phone_plan import BadNetwork
from loadtest.phone_rtp import Ear, Mouth

PTIME_NS = 20_000_000
# Event loops' timers count in milliseconds: a finer spread of the calls over a ptime gains nothing.
SLOTS = 20
SLOT_NS = PTIME_NS // SLOTS
# After a stall so many frames are made up for; older ones are never sent.
CATCH_UP_FRAMES = 3
MAX_DATAGRAM_BYTES = 2048

# From Linux's asm-generic/socket.h; Python has no name for it. The ancillary message has the same
# number and holds a struct timespec of CLOCK_REALTIME.
SO_TIMESTAMPNS = 35
TIMESPEC = struct.Struct("@ll")
ANCILLARY_BYTES = socket.CMSG_SPACE(TIMESPEC.size)

BIND_TRIES = 100

Address = tuple[str, int]
OnError = Callable[[OSError], None]


class MediaLeg:
    """One call's RTP ports, and what it says and hears there.

    Nothing is read or sent before `connect`, nothing sent before `start`. The port is even, and the
    odd one above it is held too, so that the far end's RTCP (RFC 3550 section 11) cannot run into
    another call's RTP. A socket that fails, as for an address that cannot be reached, ends this
    leg's traffic and is told to `on_error`. `network` is what packets go through on their way.
    """

    def __init__(self, host: str, keep_packets: bool, on_error: OnError) -> None:
        self._on_error = on_error
        self._rtp, self._rtcp = _bind_pair(host)
        self.port: int = self._rtp.getsockname()[1]
        bits = secrets.randbits
        self.mouth = Mouth(bits(32), bits(16), bits(32), keep=keep_packets)
        self.network: BadNetwork | None = None
        self.ear = Ear(keep=keep_packets)
        self.sent_packets = 0
        self.first_sent_ns: int | None = None
        self.send_late_max_ns = 0
        self._remote: Address | None = None
        self._sending = False
        self._frame: int | None = None
        self._emptied_ns = time.monotonic_ns()

    def connect(self, remote: Address, event_type: int | None) -> None:
        """Listen to this address only, and send there, with this type for telephone-events."""
        self._remote, self.mouth.event_type = remote, event_type

    def start(self) -> None:
        """Send a frame per ptime from now on; again after `stop`."""
        self._sending = True

    def stop(self) -> None:
        """Send nothing any more; what arrives is still heard."""
        self._sending, self._frame = False, None

    def tick(self, frame: int, deadline_ns: int) -> None:
        """Send the frame of this number if it is time to send, and read what has arrived."""
        if self._remote is None:
            return
        try:
            if self._sending:
                self._send(self._remote, frame, deadline_ns)
            self.empty()
        except OSError as error:
            host, port = self._remote
            self._remote = None
            self._on_error(OSError(f"RTP with {host}:{port} failed: {error}"))

    def _send(self, remote: Address, frame: int, deadline_ns: int) -> None:
        missed = 0 if self._frame is None else frame - self._frame - 1
        self._frame = frame
        packet = self.mouth.next_packet(missed)
        if self.network is not None:
            self._lose_or_hold_up(packet, self.network)
            return
        now_ns = time.monotonic_ns()
        try:
            self._rtp.sendto(packet, remote)
        except BlockingIOError:
            return  # the kernel's queue is full: a packet lost, and missing in `sent_packets`
        self.sent_packets += 1
        self.send_late_max_ns = max(self.send_late_max_ns, now_ns - deadline_ns)
        if self.first_sent_ns is None:
            self.first_sent_ns = now_ns

    def _lose_or_hold_up(self, packet: bytes, network: BadNetwork) -> None:
        now_ns = time.monotonic_ns()
        self.first_sent_ns = first_ns = self.first_sent_ns or now_ns
        silent_after = network.silent_after
        silent = silent_after is not None and now_ns - first_ns > silent_after * 1e9
        if silent or random.random() < network.loss_share:
            return
        delay_s = random.uniform(0, network.jitter_ms / 1000)
        asyncio.get_running_loop().call_later(delay_s, self._send_late, packet)

    def _send_late(self, packet: bytes) -> None:
        if self._remote is None or self._rtp.fileno() < 0:
            return  # the call is over
        try:
            self._rtp.sendto(packet, self._remote)
        except OSError:
            return  # a packet lost, as all else that this network loses
        self.sent_packets += 1

    def empty(self) -> None:
        """Read everything that has arrived."""
        began_ns = time.monotonic_ns()
        from_realtime_ns = began_ns - time.time_ns()
        while True:
            try:
                data, ancillary, _, source = self._rtp.recvmsg(MAX_DATAGRAM_BYTES, ANCILLARY_BYTES)
            except BlockingIOError:
                break
            if source != self._remote:
                self.ear.stray += 1
                continue
            stamp_ns = from_realtime_ns + _realtime_ns(ancillary)
            # It came between the last emptying and now. So a step of the wall clock cannot move it.
            at_ns = min(max(stamp_ns, self._emptied_ns), time.monotonic_ns())
            self.ear.hear(data, at_ns)
        self._emptied_ns = began_ns

    def close(self) -> None:
        """Read the rest and give the ports back."""
        if self._remote is not None and self._rtp.fileno() >= 0:
            self.empty()
        self._rtp.close()
        self._rtcp.close()


def _realtime_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = TIMESPEC.unpack(data)
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    raise OSError("the kernel gave no receive time stamp (SO_TIMESTAMPNS) with an RTP packet")


def _bind_pair(host: str) -> tuple[socket.socket, socket.socket]:
    """Sockets on a free even port and the odd one above it."""
    for _ in range(BIND_TRIES):
        with ExitStack() as opened:
            rtp = opened.enter_context(_bound_socket(host, 0))
            port = rtp.getsockname()[1]
            if port % 2:
                continue
            try:
                rtcp = opened.enter_context(_bound_socket(host, port + 1))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            rtp.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            opened.pop_all()
            return rtp, rtcp
    raise OSError(errno.EADDRINUSE, f"no free pair of UDP ports on {host} in {BIND_TRIES} tries")


def _bound_socket(host: str, port: int) -> socket.socket:
    with ExitStack() as opened:
        udp = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.setblocking(False)
        udp.bind((host, port))
        opened.pop_all()
        return udp


class PhoneMedia:
    """The pacer of many legs, and their owner. An async context manager.

    `pacer` is the task that keeps the time; if it ever ends, no call has media any more.
    """

    pacer: asyncio.Task[None]

    def __init__(self, host: str) -> None:
        self._host = host
        self._slots: list[list[MediaLeg]] = [[] for _ in range(SLOTS)]
        self._legs_there = asyncio.Event()

    async def __aenter__(self) -> PhoneMedia:
        self.pacer = asyncio.create_task(self._pace(), name="phone pacer")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.pacer.cancel()
        await asyncio.wait({self.pacer})
        for leg in [leg for slot in self._slots for leg in slot]:
            self.close_leg(leg)

    def open_leg(self, keep_packets: bool, on_error: OnError) -> MediaLeg:
        """Bind a port for a call. OSError when there is none, or no file descriptor."""
        leg = MediaLeg(self._host, keep_packets, on_error)
        min(self._slots, key=len).append(leg)
        self._legs_there.set()
        return leg

    def close_leg(self, leg: MediaLeg) -> None:
        """End a call's RTP; what has arrived by now is still heard."""
        for slot in self._slots:
            if leg in slot:
                slot.remove(leg)
        leg.close()

    async def _pace(self) -> None:
        """Tick each slot's legs at its time, which is fixed once and for all by the slot's number.

        Sleeping goes by the event loop's millisecond, so a tick may come up to 1 ms off.
        """
        origin_ns = time.monotonic_ns()
        slot = 0
        while True:
            if not any(self._slots):
                self._legs_there.clear()
                await self._legs_there.wait()
                slot = (time.monotonic_ns() - origin_ns) // SLOT_NS + 1
            while not self._slots[slot % SLOTS]:
                slot += 1
            late_ns = time.monotonic_ns() - origin_ns - slot * SLOT_NS
            await asyncio.sleep(max(0, -late_ns) / 1e9)
            slot += max(0, late_ns // PTIME_NS - CATCH_UP_FRAMES) * SLOTS
            for leg in tuple(self._slots[slot % SLOTS]):
                leg.tick(slot // SLOTS, origin_ns + slot * SLOT_NS)
            slot += 1
