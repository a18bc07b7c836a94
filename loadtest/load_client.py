"""locust's side of the phone: starts `loadtest.load_phone`, gives it orders, awaits its reports.

For greenlets: import it after locust, which has replaced the standard library's sockets and
processes by gevent's. Waiting for a report blocks the caller's greenlet, and no other.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import gevent
import msgspec
from gevent.event import AsyncResult

from loadtest.load_figures import CallReport
from loadtest.load_plan import CallOrder, HangUp, Order

CHECKOUT: Final = Path(__file__).parents[1]
STOP_S: Final = 10.0


class PhoneGoneError(Exception):
    """The phone has ended, so there are no calls any more."""


class PhoneClient:
    """One phone process at an IPv4 address, from here to `close`.

    `on_lost` is called if it ends by itself.
    """

    def __init__(self, host: str, on_lost: Callable[[PhoneGoneError], None]) -> None:
        self._on_lost = on_lost
        self._waiting: dict[int, AsyncResult[CallReport]] = {}
        self._closing = False
        self._socket, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            options = ["--fd", str(number), "--host", host]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "loadtest.load_phone", *options],
                cwd=CHECKOUT,
                pass_fds=[number],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is locust's: it hangs up before it ends
            )
        self._reader = gevent.spawn(self._read)

    @property
    def pid(self) -> int:
        """The phone's process."""
        return self._process.pid

    def call(self, order: CallOrder) -> CallReport:
        """Have a call made, and wait for its end. A greenlet that is killed meanwhile hangs up.

        Raises:
            PhoneGoneError: the phone has ended.
        """
        report = self._waiting[order.number] = AsyncResult()
        try:
            self._send(order)
            return cast(CallReport, report.get())
        finally:
            if self._waiting.pop(order.number, None) and not report.ready():
                self._send(HangUp(order.number))

    def close(self) -> None:
        """Have all calls hung up, and wait until the phone has ended."""
        if self._closing:
            return
        self._closing = True
        try:
            self._socket.shutdown(socket.SHUT_WR)
            self._process.wait(STOP_S)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        if gevent.getcurrent() is not self._reader:  # as it is when `on_lost` closes
            self._reader.join()
        self._socket.close()

    def _send(self, order: Order) -> None:
        try:
            self._socket.sendall(msgspec.json.encode(order) + b"\n")
        except OSError as error:
            raise PhoneGoneError(f"the phone is gone: {error}") from error

    def _read(self) -> None:
        decoder = msgspec.json.Decoder(CallReport)
        with self._socket.makefile("rb") as lines:
            for line in lines:
                report = decoder.decode(line)
                if waiting := self._waiting.pop(report.number, None):
                    waiting.set(report)
        status = self._process.wait()
        gone = PhoneGoneError(f"the phone has ended with status {status}")
        for waiting in self._waiting.values():
            waiting.set_exception(gone)
        if not self._closing:
            self._on_lost(gone)
