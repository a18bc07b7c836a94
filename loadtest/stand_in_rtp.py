"""The stand-in's RTP: one socket for each leg, and datagrams that pass from leg to leg unchanged.

Asterisk's two-party bridge gives packets its own SSRC and adds a constant to their sequence
numbers; gaps, duplicates and order stay as they came. Here the whole datagram stays as it is.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator

from loadtest.stand_in_digits import EVENTS, Digit, DigitReceiver, digit_payloads
from loadtest.stand_in_script import Script

HEADER = struct.Struct("!BBHII")  # RFC 3550 section 5.1: flags, marker and type, seq, time, SSRC
MAX_DATAGRAM_BYTES = 2048
PTIME_S = 0.020
TICKS_PER_FRAME = 160
MARKER = 0x80
PCMU = 0
DIGIT_MS = 100  # Asterisk's defaults for `duration` and `between` of a DTMF request
DIGIT_PAUSE_S = 0.100

Address = tuple[str, int]


class NoRtpPort(OSError):
    """Every port of the range is in use."""


class RtpPorts:
    """The even ports of a range, the longest unused first; an odd one would be RTCP's."""

    def __init__(self, host: str, start: int, end: int) -> None:
        self.host = host
        self.leased: set[int] = set()
        self._free = deque(range(start + start % 2, end + 1, 2))

    def bind(self) -> socket.socket:
        """A bound, non-blocking UDP socket; a port that another process holds is passed over."""
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.setblocking(False)
        for _ in range(len(self._free)):
            port = self._free.popleft()
            try:
                bound.bind((self.host, port))
            except OSError:
                self._free.append(port)
                continue
            self.leased.add(port)
            return bound
        bound.close()
        raise NoRtpPort(f"no free RTP port on {self.host} ({len(self.leased)} in use)")

    def release(self, bound: socket.socket) -> None:
        port = bound.getsockname()[1]
        bound.close()
        self.leased.remove(port)
        self._free.append(port)


class Leg:
    """One channel's RTP socket: receives, latches on its peer, and passes packets to `other`.

    `peer` is where packets go before the peer has sent one; with `latch` the first source that
    sends RTP becomes the peer (Asterisk's rtp_symmetric), else only `peer` itself is listened to.
    Afterwards the kernel drops what comes from elsewhere, as strict RTP does in Asterisk.
    Raises OSError when no port is left or the peer can't be reached.
    `event_type` is the payload type of telephone-events: they become digits and are not passed on.
    With None no digits are sent, and events that come are passed on like audio.
    """

    def __init__(
        self, ports: RtpPorts, peer: Address, *, latch: bool, event_type: int | None
    ) -> None:
        self.other: Leg | None = None
        self.on_digit: Callable[[Digit], None] | None = None
        self.received = self.sent = self.unsent = self.malformed = 0
        self._ports = ports
        self._peer = peer
        self._event_type = event_type
        self._digits = DigitReceiver()
        self._inserted = 0
        self._last = HEADER.pack(0x80, PCMU, *struct.unpack("!HII", os.urandom(10)))
        self._queue: deque[str] = deque()
        self._script: Script | None = None
        self._loop = asyncio.get_running_loop()
        self._socket = ports.bind()
        self.address: Address = self._socket.getsockname()
        self._connected = not latch
        if self._connected:
            try:
                self._socket.connect(peer)
            except OSError:
                ports.release(self._socket)
                raise
        self._loop.add_reader(self._socket, self._receive if self._connected else self._latch)

    def close(self) -> None:
        """Give the port back and end what is being played. May be called twice."""
        if self._script is not None:
            self._script.stop()
        if self._socket.fileno() != -1:
            self._loop.remove_reader(self._socket)
            self._ports.release(self._socket)

    def play(self, mulaw: bytes, then: Callable[[], None]) -> None:
        """Send audio in 20 ms frames instead of digits that may be waiting, then call `then`."""
        if self._script is not None:
            self._script.stop()
        self._queue.clear()
        self._script = Script(self._tone_steps(mulaw), then)

    def send_digits(self, digits: str) -> None:
        """Send key presses to the peer, after those that wait already; unknown keys are skipped."""
        self._queue.extend(digit for digit in digits.upper() if digit in EVENTS)
        if self._script is None or not self._script.running:
            self._script = Script(self._digit_steps())

    def forward(self, datagram: bytes) -> None:
        """Send on what the other leg received; only after own packets its number is raised."""
        if self._inserted:
            sequence = int.from_bytes(datagram[2:4], "big") + self._inserted
            datagram = datagram[:2] + (sequence & 0xFFFF).to_bytes(2, "big") + datagram[4:]
        self._last = datagram
        self._send(datagram)

    def _latch(self) -> None:
        try:
            datagram, source = self._socket.recvfrom(MAX_DATAGRAM_BYTES)
        except BlockingIOError:
            return
        if _is_rtp(datagram):
            self._socket.connect(source)
            self._connected = True
            self._loop.add_reader(self._socket, self._receive)
        self._take(datagram)

    def _receive(self) -> None:
        try:
            datagram = self._socket.recv(MAX_DATAGRAM_BYTES)
        except BlockingIOError:
            return
        except ConnectionRefusedError:  # of a datagram sent before: the peer's port is closed
            self.unsent += 1
            return
        self._take(datagram)

    def _take(self, datagram: bytes) -> None:
        if not _is_rtp(datagram):
            self.malformed += 1
            return
        self.received += 1
        if datagram[1] & 0x7F == self._event_type:
            self._take_event(datagram)
        elif self.other is not None:
            self.other.forward(datagram)

    def _take_event(self, datagram: bytes) -> None:
        payload = datagram[HEADER.size + 4 * (datagram[0] & 0x0F) :]  # after the CSRC list
        digit = self._digits.push(payload, int.from_bytes(datagram[4:8], "big"))
        if digit is not None and self.on_digit is not None:
            self.on_digit(digit)

    def _send(self, datagram: bytes) -> None:
        try:
            if self._connected:
                self._socket.send(datagram)
            else:
                self._socket.sendto(datagram, self._peer)
        except OSError:  # a full buffer or a peer that went away: RTP has no second try
            self.unsent += 1
            return
        self.sent += 1

    def _insert(self, type_and_marker: int, timestamp: int, payload: bytes) -> None:
        """Send a packet of our own right behind the last one in the same stream."""
        _, _, sequence, _, ssrc = HEADER.unpack_from(self._last)
        header = (0x80, type_and_marker, sequence + 1 & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc)
        self._last = HEADER.pack(*header) + payload
        self._inserted += 1
        self._send(self._last)

    def _next_timestamp(self) -> int:
        return int.from_bytes(self._last[4:8], "big") + TICKS_PER_FRAME

    def _tone_steps(self, mulaw: bytes) -> Iterator[float]:
        for start in range(0, len(mulaw), TICKS_PER_FRAME):
            frame = mulaw[start : start + TICKS_PER_FRAME]
            self._insert(PCMU, self._next_timestamp(), frame)
            yield PTIME_S

    def _digit_steps(self) -> Iterator[float]:
        if self._event_type is None:  # the peer's SDP takes no telephone-events
            return
        while self._queue:
            timestamp, marker = self._next_timestamp(), MARKER
            for payload in digit_payloads(self._queue.popleft(), DIGIT_MS):
                self._insert(self._event_type | marker, timestamp, payload)
                marker = 0
                yield PTIME_S
            yield DIGIT_PAUSE_S


def _is_rtp(datagram: bytes) -> bool:
    return len(datagram) >= HEADER.size and datagram[0] >> 6 == 2
