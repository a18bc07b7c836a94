"""One connection between supervisor and worker: a Unix SEQPACKET socket on the event loop.

A message is one datagram, so there is no framing, and a file descriptor travels with the
message that it belongs to. The peer's death is the socket's end of file.
"""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from shim.control import MAX_MESSAGE_BYTES, ControlError, FromWorker, ToWorker, encode

MAX_QUEUED: Final = 4096
"""Messages that may wait for a peer that doesn't read; one more and it counts as broken."""

Received = TypeVar("Received")


class ControlChannel(Generic[Received]):
    """Sends and receives control messages.

    Args:
        sock: a connected SEQPACKET socket; the channel owns it from now on.
        decode: bytes to message, raising ControlError.
        on_message: called with each message and the socket that came with it, or None.
        on_closed: called once, with the reason, when the connection is gone.
    """

    def __init__(
        self,
        sock: socket.socket,
        decode: Callable[[bytes], Received],
        on_message: Callable[[Received, socket.socket | None], None],
        on_closed: Callable[[str], None],
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._decode = decode
        self._on_message = on_message
        self._on_closed = on_closed
        self._waiting: deque[tuple[bytes, int | None]] = deque()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._read)
        self.closed = False

    def send(self, message: ToWorker | FromWorker, passed: socket.socket | None = None) -> None:
        """Send a message, and with it a socket (which stays open here). Never blocks.

        On a closed channel it does nothing: `on_closed` has told the owner already.
        """
        if self.closed:
            return
        data = encode(message)
        fd = os.dup(passed.fileno()) if passed is not None else None
        self._waiting.append((data, fd))
        if len(self._waiting) == 1:
            self._write()
        elif len(self._waiting) > MAX_QUEUED:
            self.close(f"the peer left {MAX_QUEUED} messages unread")

    def close(self, reason: str = "closed") -> None:
        """Close the connection; a second call does nothing."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        while self._waiting:
            _close_fd(self._waiting.popleft()[1])
        self._on_closed(reason)

    def _write(self) -> None:
        while self._waiting and not self.closed:
            data, fd = self._waiting[0]
            try:
                socket.send_fds(self._sock, [data], [] if fd is None else [fd])
            except BlockingIOError:
                self._loop.add_writer(self._sock, self._write)
                return
            except OSError as error:
                self.close(f"sending failed: {error.strerror}")
                return
            self._waiting.popleft()
            _close_fd(fd)
        if not self.closed:
            self._loop.remove_writer(self._sock)

    def _read(self) -> None:
        try:
            data, fds, flags, _ = socket.recv_fds(self._sock, MAX_MESSAGE_BYTES, 1)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(f"receiving failed: {error.strerror}")
            return
        passed = socket.socket(fileno=fds[0]) if fds else None
        if not data:
            self.close("end of file")
        elif flags & socket.MSG_TRUNC:
            # MSG_CTRUNC alone means that no descriptor was free for the socket that came along:
            # its message goes on without it, and is refused by whom it concerns.
            self._reject(passed, "a message was cut off")
        else:
            self._deliver(data, passed)

    def _deliver(self, data: bytes, passed: socket.socket | None) -> None:
        try:
            message = self._decode(data)
        except ControlError as error:
            self._reject(passed, str(error))
            return
        self._on_message(message, passed)

    def _reject(self, passed: socket.socket | None, reason: str) -> None:
        if passed is not None:
            passed.close()
        self.close(reason)


def _close_fd(fd: int | None) -> None:
    if fd is not None:
        os.close(fd)
