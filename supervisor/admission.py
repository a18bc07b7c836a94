"""Whether one more call can be taken without hurting those that are up. Pure."""

from typing import Final

from msgspec import Struct

ASTERISK_PORTS_PER_CALL: Final = 4
"""Two legs, each with an RTP port and the RTCP port after it."""
ASTERISK_SPARE_SHARE: Final = 0.1
ASTERISK_SPARE_LEAST: Final = 40
"""Of Asterisk's RTP ports this share is left free, and at least so many: Asterisk itself crashes
when an ExternalMedia leg finds none (asterisk issue 1757), and was seen to when a burst of INVITEs
did; legs also close a little late."""
FD_RESERVE: Final = 64
"""Descriptors for what is no call: ARI, HTTP, workers, logs."""
WORKER_FDS_PER_CALL: Final = 2
LATE_LIMIT: Final = 0.2
"""A worker in which so large a share of slots ran more than 10 ms late has no room for more."""


class Limits(Struct, frozen=True):
    """What bounds the number of calls. `max_calls` 0: nothing but the rest does."""

    max_calls: int
    asterisk_ports: int
    fds: int

    @property
    def asterisk_calls(self) -> int:
        """Calls that Asterisk's RTP ports suffice for, less a reserve."""
        spare = max(ASTERISK_SPARE_LEAST, self.asterisk_ports * ASTERISK_SPARE_SHARE)
        return max(0, int((self.asterisk_ports - spare) // ASTERISK_PORTS_PER_CALL))

    @property
    def worker_calls(self) -> int:
        """Calls that a worker has descriptors for."""
        return (self.fds - FD_RESERVE) // WORKER_FDS_PER_CALL


def why_full(limits: Limits, calls: int, *, draining: bool) -> str:
    """Why no call more can be taken beside `calls`; empty if one can."""
    if draining:
        return "draining"
    if 0 < limits.max_calls <= calls:
        return f"MAX_CALLS is {limits.max_calls}"
    if calls >= limits.asterisk_calls:
        return f"Asterisk's {limits.asterisk_ports} RTP ports suffice for no more calls"
    if calls >= limits.fds - FD_RESERVE:
        return f"{limits.fds} file descriptors suffice for no more calls"
    return ""
