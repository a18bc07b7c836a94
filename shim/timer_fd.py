"""A periodic timer that the event loop can wait for as for a socket.

libuv's own timers have whole milliseconds and re-arm relative to now; a timerfd(2) has its
deadlines in the kernel, so it never drifts.
"""

import ctypes
import os
import sys
from typing import Final

if sys.version_info >= (3, 13):

    def create() -> int:
        """Make a non-blocking timer on CLOCK_MONOTONIC that is not armed; returns its fd."""
        return os.timerfd_create(1, flags=os.TFD_NONBLOCK | os.TFD_CLOEXEC)

    def arm(fd: int, period_ns: int, first_ns: int = 0) -> None:
        """Let the timer expire each `period_ns`, first after `first_ns` if given; 0 disarms it."""
        os.timerfd_settime_ns(fd, initial=first_ns or period_ns, interval=period_ns)

else:
    _CLOCK_MONOTONIC: Final = 1
    _libc: Final = ctypes.CDLL(None, use_errno=True)

    class _TimeSpec(ctypes.Structure):
        _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))

    class _TimerSpec(ctypes.Structure):
        _fields_ = (("interval", _TimeSpec), ("initial", _TimeSpec))

    def create() -> int:
        """Make a non-blocking timer on CLOCK_MONOTONIC that is not armed; returns its fd."""
        fd: int = _libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        return fd

    def arm(fd: int, period_ns: int, first_ns: int = 0) -> None:
        """Let the timer expire each `period_ns`, first after `first_ns` if given; 0 disarms it."""
        period, first = (
            _TimeSpec(*divmod(ns, 1_000_000_000)) for ns in (period_ns, first_ns or period_ns)
        )
        spec = _TimerSpec(period, first)
        if _libc.timerfd_settime(fd, 0, ctypes.byref(spec), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")


def expirations(fd: int) -> int:
    """Take the number of periods that have passed since the last call; 0 if none."""
    try:
        return int.from_bytes(os.read(fd, 8), sys.byteorder)
    except BlockingIOError:
        return 0
