"""Asterisk's end of a call's media, as the worker sees it: one connected UDP socket."""

import asyncio
import itertools
import socket
import time
from typing import NamedTuple

from shim import rtp_packet
from shim.pcmu import FRAME_BYTES, SILENT_FRAME
from shim.rtp_packet import RtpPacket
from tests.shim.polling import PATIENCE_S, until

LOOPBACK = "127.0.0.1"


class Arrival(NamedTuple):
    """A packet of the worker, and the monotonic time at which the test read it."""

    at_ns: int
    packet: RtpPacket


class AsteriskMedia:
    """Speaks RTP with the socket at `peer` from `open` to `close`; keeps all that arrives."""

    def __init__(self, peer: tuple[str, int]) -> None:
        self.peer = peer
        self.arrivals: list[Arrival] = []
        self.sequence = 1000
        self.timestamp = 160_000
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        self._sock.bind((LOOPBACK, 0))
        self._sock.connect(peer)
        asyncio.get_running_loop().add_reader(self._sock, self._read)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._sock.getsockname()
        return host, port

    @property
    def packets(self) -> list[RtpPacket]:
        """What arrived, in order of arrival."""
        return [arrival.packet for arrival in self.arrivals]

    @property
    def heard(self) -> bytes:
        """The audio that arrived, silent frames left out."""
        return b"".join(p.payload for p in self.packets if p.payload != SILENT_FRAME)

    def speak(self, payload: bytes) -> None:
        """Send the next packet of the caller's voice."""
        self.send(rtp_packet.build(self.sequence, self.timestamp, 7, payload))
        self.sequence += 1
        self.timestamp += len(payload)

    def send(self, datagram: bytes) -> None:
        """Send any datagram."""
        self._sock.send(datagram)

    async def speak_for(self, frames: int, interval_s: float = 0.02) -> list[bytes]:
        """Send so many frames, spaced by absolute deadlines; returns their payloads.

        The n-th frame is filled with n modulo 251, so it can be told from silence.
        """
        spoken = []
        start = time.monotonic()
        for number in range(frames):
            wait_s = start + number * interval_s - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            spoken.append(bytes([number % 251]) * FRAME_BYTES)
            self.speak(spoken[-1])
        return spoken

    async def wait_packets(self, count: int, within_s: float = PATIENCE_S) -> list[RtpPacket]:
        """Wait until so many packets more than now have come; returns those."""
        start = len(self.arrivals)
        await until(lambda: len(self.arrivals) >= start + count, f"{count} RTP packets", within_s)
        return self.packets[start:]

    async def wait_heard(self, audio: bytes, within_s: float = PATIENCE_S) -> None:
        """Wait until the audio that arrived is exactly this, a last frame's padding aside."""
        await until(lambda: len(self.heard) >= len(audio), f"{len(audio)} bytes of audio", within_s)
        padding = -len(audio) % FRAME_BYTES
        assert self.heard == audio + b"\xff" * padding

    def close(self) -> None:
        """Close the socket: from now on the worker's packets are refused by ICMP."""
        if self._sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()

    def _read(self) -> None:
        while True:
            try:
                datagram = self._sock.recv(2048)
            except BlockingIOError:
                return
            except ConnectionRefusedError:  # the worker's socket is gone
                return
            self.arrivals.append(Arrival(time.monotonic_ns(), rtp_packet.parse(datagram)))


def assert_continuous(packets: list[RtpPacket]) -> None:
    """Check that SSRC is one, and that sequence number and timestamp go on without a break.

    A worker that a busy machine held up for more than 60 ms skips ticks, as it should: then the
    timestamp goes on by more than a frame, but all in all by no more than half a second.
    """
    skipped = 0
    for before, after in itertools.pairwise(packets):
        assert after.ssrc == before.ssrc
        assert after.sequence == (before.sequence + 1) % 65536
        frames, rest = divmod((after.timestamp - before.timestamp) % (1 << 32), FRAME_BYTES)
        assert frames >= 1
        assert rest == 0
        skipped += frames - 1
    assert skipped <= 25
