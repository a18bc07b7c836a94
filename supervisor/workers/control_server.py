"""Where workers connect: the listening SEQPACKET socket in the run directory."""

import asyncio
import os
import socket
from pathlib import Path
from typing import Final, Protocol

import structlog

from shim.control import FromWorker, decode_from_worker
from shim.control_channel import ControlChannel

log = structlog.get_logger()

BACKLOG: Final = 64
ACCEPT_AGAIN_S: Final = 0.5
"""Pause when no file descriptor is left: who waits to be accepted would be reported in a loop."""

WorkerChannel = ControlChannel[FromWorker]


class ControlListener(Protocol):
    """What the server tells its owner."""

    def on_message(
        self, channel: WorkerChannel, message: FromWorker, passed: socket.socket | None
    ) -> None:
        """A message of a worker, and the socket that came with it."""

    def on_closed(self, channel: WorkerChannel, reason: str) -> None:
        """The connection is gone: the worker is dead, or broken."""


class ControlServer:
    """Accepts workers until it is closed; then the socket file is gone too."""

    def __init__(self, path: Path, owner: ControlListener) -> None:
        self._path = path
        self._owner = owner
        path.unlink(missing_ok=True)
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sock.setblocking(False)
        self._sock.bind(str(path))
        os.chmod(path, 0o600)
        self._sock.listen(BACKLOG)
        self._channels: set[WorkerChannel] = set()
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._listen()

    def close(self) -> None:
        """Stop to listen, and close all connections."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()
        self._path.unlink(missing_ok=True)
        for channel in list(self._channels):
            channel.close("the supervisor ends")

    def _listen(self) -> None:
        self._loop.add_reader(self._sock, self._accept)

    def _accept(self) -> None:
        try:
            sock, _ = self._sock.accept()
        except BlockingIOError:
            return
        except OSError as error:
            log.error("worker_not_accepted", reason=error.strerror)
            self._loop.remove_reader(self._sock)
            self._pause = self._loop.call_later(ACCEPT_AGAIN_S, self._listen)
            return
        handlers = _Handlers(self._owner, self._channels)
        handlers.channel = ControlChannel(
            sock, decode_from_worker, handlers.message, handlers.closed
        )
        self._channels.add(handlers.channel)


class _Handlers:
    """Adds to each message the channel that it came from."""

    channel: WorkerChannel

    def __init__(self, owner: ControlListener, channels: set[WorkerChannel]) -> None:
        self._owner = owner
        self._channels = channels

    def message(self, message: FromWorker, passed: socket.socket | None) -> None:
        self._owner.on_message(self.channel, message, passed)

    def closed(self, reason: str) -> None:
        self._channels.discard(self.channel)
        self._owner.on_closed(self.channel, reason)
