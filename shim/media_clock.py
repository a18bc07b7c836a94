"""All RTP of a worker, in one pass per slot of the pacer: frames out when due, then frames in.

The sockets are in an epoll set of their own that is polled by the same timer that paces the
calls. Waking the event loop for each packet costs more than the packet itself; a packet waits
2.5 ms on average for the next pass, which nobody hears.
"""

import asyncio
import os
import select
import socket
import time
from typing import Final, Protocol

from shim import timer_fd
from shim.pacer import SLOT_NS, Paced, Pacer

MAX_DATAGRAM_BYTES: Final = 1024
"""Far more than 20 ms of PCMU; the rest of a longer datagram is cut off by the kernel."""
MAX_ROUNDS: Final = 4
"""So often the sockets are polled in one pass. A flood on one port then waits in its own
kernel buffer, where it overflows, instead of holding up the others."""


class MediaStream(Paced, Protocol):
    """What the clock drives: both directions of one call."""

    rtp: socket.socket
    slot: int | None
    """Its slot of the pacer; None: any."""

    def receive(self, datagram: bytes, now_ns: int) -> None:
        """Take a datagram that arrived on `rtp`."""

    def receive_failed(self, error: OSError) -> None:
        """Reading `rtp` failed; ICMP errors arrive this way."""


class MediaClock:
    """Paces streams and reads their sockets, from `add` to `remove`."""

    def __init__(self) -> None:
        self.pacer = Pacer(time.monotonic_ns())
        self._timer = timer_fd.create()
        self._epoll = select.epoll()
        self._streams: dict[int, MediaStream] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._timer, self._tick)

    def add(self, stream: MediaStream) -> int:
        """Start to send and receive. Its socket must be connected and non-blocking.

        Returns the time in ns at which the first frame is due.
        """
        now_ns = time.monotonic_ns()
        fd = stream.rtp.fileno()
        self._streams[fd] = stream
        self._epoll.register(fd, select.EPOLLIN)
        if len(self._streams) == 1:
            self.pacer.rest(now_ns)
            timer_fd.arm(self._timer, SLOT_NS, SLOT_NS - now_ns % SLOT_NS)  # at a slot's begin
        else:
            self.pacer.run(now_ns)  # what is overdue is the others'
        stream.slot = self.pacer.add(stream, stream.slot)
        return self.pacer.due_ns(stream.slot)

    def remove(self, stream: MediaStream) -> None:
        """Stop, with what arrived since the last pass; the stream's socket must still be open."""
        fd = stream.rtp.fileno()
        if self._streams.pop(fd, None) is None:
            return
        now_ns = time.monotonic_ns()
        for _ in range(MAX_ROUNDS):
            if not _receive_one(stream, now_ns):
                break
        self._epoll.unregister(fd)
        self.pacer.remove(stream)
        if not self._streams:
            timer_fd.arm(self._timer, 0)

    def close(self) -> None:
        """Release timer and epoll set."""
        self._loop.remove_reader(self._timer)
        os.close(self._timer)
        self._epoll.close()

    def _tick(self) -> None:
        timer_fd.expirations(self._timer)
        now_ns = time.monotonic_ns()
        self.pacer.run(now_ns)
        streams = self._streams
        for _ in range(MAX_ROUNDS):
            ready = self._epoll.poll(0)
            if not ready:
                return
            for fd, _ in ready:
                stream = streams.get(fd)
                if stream is None:
                    continue  # one of the streams before it in this round has ended it
                try:  # as `_receive_one` does, without the cost of a call for each packet
                    datagram = stream.rtp.recv(MAX_DATAGRAM_BYTES)
                except BlockingIOError:
                    continue
                except OSError as error:
                    stream.receive_failed(error)
                    continue
                stream.receive(datagram, now_ns)


def _receive_one(stream: MediaStream, now_ns: int) -> bool:
    """Read one datagram; whether there was one."""
    try:
        datagram = stream.rtp.recv(MAX_DATAGRAM_BYTES)
    except BlockingIOError:
        return False
    except OSError as error:
        stream.receive_failed(error)
        return False
    stream.receive(datagram, now_ns)
    return True
