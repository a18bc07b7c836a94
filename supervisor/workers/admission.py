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


class Refusal(Struct, frozen=True):
    """Why a call can't be taken: for counting, in one of a few words, and for people."""

    kind: str
    text: str


REFUSALS: Final = ("draining", "max_calls", "asterisk_ports", "descriptors", "no_worker", "no_port")
"""All kinds, those included that only show when a worker and a port are looked for."""


def why_full(limits: Limits, calls: int, *, draining: bool) -> Refusal | None:
    """Why no call more can be taken beside `calls`; None if one can."""
    if draining:
        return Refusal("draining", "draining")
    if 0 < limits.max_calls <= calls:
        return Refusal("max_calls", f"MAX_CALLS is {limits.max_calls}")
    if calls >= limits.asterisk_calls:
        ports = limits.asterisk_ports
        return Refusal("asterisk_ports", f"Asterisk's {ports} RTP ports suffice for no more calls")
    if calls >= limits.fds - FD_RESERVE:
        return Refusal("descriptors", f"{limits.fds} file descriptors suffice for no more calls")
    return None
