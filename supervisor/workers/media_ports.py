"""The RTP sockets of all calls: leased, bound here, used by a worker, held by both.

Both processes hold the same open socket, so it outlives either of them, and what one sets
(`connect`) holds for the other.
"""

import errno
import socket
import time
from collections.abc import Iterable
from typing import Final

import structlog

from shim.environment import ConfigError
from supervisor.workers.port_table import PortTable

log = structlog.get_logger()

BIND_TRIES: Final = 256
"""So many ports of a slice are tried when other programs sit on some."""


class NoPortError(Exception):
    """No worker has a port for the call; the text says why, `kind` in one word (`REFUSALS`)."""

    def __init__(self, text: str, kind: str = "no_port") -> None:
        super().__init__(text)
        self.kind = kind


def check_host(variable: str, host: str) -> None:
    """Try to bind there, so that a bad address shows at the start and not with each call.

    Raises:
        ConfigError: `variable` holds no IPv4 address of this machine.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
    except OSError as error:
        raise ConfigError(
            f"{variable} is {host!r}: {error.strerror}; allowed is an IPv4 address of this machine"
        ) from error


class MediaPorts:
    """One bound UDP socket per call, from `take` to `release`."""

    def __init__(self, table: PortTable, host: str) -> None:
        self.table = table
        self._host = host
        self._held: dict[str, tuple[int, socket.socket]] = {}

    def take(self, workers: Iterable[int], call_sid: str) -> tuple[int, int]:
        """Lease and bind a port of the first worker that has one; returns (worker, port).

        Raises:
            NoPortError: none has, or no file descriptors are left.
        """
        for worker in workers:
            for _ in range(BIND_TRIES):
                port = self.table.lease(worker, call_sid, time.monotonic_ns())
                if port is None:
                    break
                sock = self._bind(port)
                if sock is not None:
                    self._held[call_sid] = (port, sock)
                    return worker, port
        raise NoPortError("no worker has a free port")

    def adopt(self, call_sid: str, port: int, worker: int, sock: socket.socket) -> None:
        """Hold the socket of a call that a worker has brought along."""
        self.table.adopt(port, worker, call_sid)
        self._held[call_sid] = (port, sock)

    def socket_of(self, call_sid: str) -> socket.socket | None:
        """The call's socket."""
        held = self._held.get(call_sid)
        return held[1] if held else None

    def connect(self, call_sid: str, peer: tuple[str, int]) -> None:
        """From now on only Asterisk's media address can reach the call's socket."""
        self._held[call_sid][1].connect(peer)

    def release(self, call_sid: str) -> None:
        """Close the call's socket and let its port rest; without a port nothing happens."""
        port, sock = self._held.pop(call_sid, (0, None))
        if sock is not None:
            sock.close()
            self.table.release(port, time.monotonic_ns())

    def close(self) -> None:
        """Let go of everything."""
        for call_sid in list(self._held):
            self.release(call_sid)

    def _bind(self, port: int) -> socket.socket | None:
        """Bind without SO_REUSEADDR, as a second bind must fail; None if another program has it."""
        try:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        except OSError as error:
            self.table.release(port, time.monotonic_ns())
            raise NoPortError(f"no socket: {error.strerror}", "descriptors") from error
        try:
            sock.setblocking(False)
            sock.bind((self._host, port))
        except OSError as error:
            sock.close()
            self.table.release(port, time.monotonic_ns())
            if error.errno != errno.EADDRINUSE:
                raise NoPortError(f"{self._host}:{port}: {error.strerror}") from error
            log.warning("rtp_port_taken", host=self._host, port=port)
            return None
        return sock
