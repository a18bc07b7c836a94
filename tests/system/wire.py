"""RTP as it passes over the loopback interface, seen by a packet socket (packet(7)); needs root."""

import asyncio
import ctypes
import itertools
import socket
import struct
from collections.abc import Iterable
from types import TracebackType
from typing import Final, NamedTuple, Self

from shim import rtp_packet
from shim.rtp_packet import RtpError, RtpPacket

ETH_P_IP: Final = 0x0800
SO_ATTACH_FILTER: Final = 26
SO_RCVBUFFORCE: Final = 33
SO_TIMESTAMPNS: Final = 35  # asm-generic/socket.h; the `socket` module doesn't name it
BUFFER_BYTES: Final = 32 << 20
IP_BYTES: Final = 20
UDP_BYTES: Final = 8
FRAME_TICKS: Final = 160


class Passing(NamedTuple):
    """A packet: the kernel's time (of the wall clock), the ports that it goes from and to."""

    at_ns: int
    source: int
    target: int
    packet: RtpPacket


class RtpTap:
    """Collects what is sent from a range of UDP ports, from `with` to its end; in a running loop.

    With the workers' ports as range, that is what Asterisk gets.
    """

    def __init__(self, ports: range) -> None:
        self.seen: list[Passing] = []
        self._ports = ports

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)  # deaf until bound
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        _attach(self._socket, self._ports)
        self._socket.bind(("lo", ETH_P_IP))
        asyncio.get_running_loop().add_reader(self._socket, self._read)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._read()
        self._socket.close()

    def streams(self, ports: Iterable[int]) -> list[list[Passing]]:
        """What was seen from each of these ports: other programs may have others of the range."""
        by_port: dict[int, list[Passing]] = {port: [] for port in ports}
        for passing in self.seen:
            if passing.source in by_port:
                by_port[passing.source].append(passing)
        return list(by_port.values())

    def _read(self) -> None:
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(2048, 64)
            except BlockingIOError:
                return
            seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
            source, target = struct.unpack_from("!HH", data, IP_BYTES)
            try:
                packet = rtp_packet.parse(data[IP_BYTES + UDP_BYTES :])
            except RtpError:
                continue  # another program's; what a worker sends is checked by its receivers
            self.seen.append(Passing(seconds * 10**9 + nanoseconds, source, target, packet))


def longest_gap_ms(stream: list[Passing]) -> float:
    """The longest time between two packets."""
    return max(after.at_ns - before.at_ns for before, after in itertools.pairwise(stream)) / 1e6


def breaks(stream: list[Passing]) -> list[str]:
    """Where another SSRC, or not the next sequence number, follows (RFC 3550 section 5.1)."""
    packets = [passing.packet for passing in stream]
    return [
        f"{before.ssrc:08x}/{before.sequence} -> {after.ssrc:08x}/{after.sequence}"
        for before, after in itertools.pairwise(packets)
        if after.ssrc != before.ssrc or after.sequence != (before.sequence + 1) % 65536
    ]


def missing_frames(stream: list[Passing]) -> int:
    """How many frames were never sent, by the timestamps."""
    first, last = stream[0].packet, stream[-1].packet
    ticks = (last.timestamp - first.timestamp) % (1 << 32)
    return ticks // FRAME_TICKS - (len(stream) - 1)


def _attach(sock: socket.socket, ports: range) -> None:
    """Let the kernel sort out (bpf(4)): incoming UDP from one of the ports; lo shows all twice."""
    program = [
        (0x30, 0, 0, 9),  # A = protocol of the IP header
        (0x15, 0, 6, socket.IPPROTO_UDP),
        (0x28, 0, 0, 0xFFFFF000 + 4),  # A = the packet's type (SKF_AD_PKTTYPE)
        (0x15, 4, 0, socket.PACKET_OUTGOING),
        (0x28, 0, 0, IP_BYTES),  # A = source port
        (0x35, 0, 2, ports.start),
        (0x25, 1, 0, ports.stop - 1),
        (0x06, 0, 0, 2048),  # take it
        (0x06, 0, 0, 0),  # leave it
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    where = struct.pack("HP", len(program), ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, where)
