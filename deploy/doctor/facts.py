"""What was seen of the machine and of its peers, before anybody judges it. Pure.

A field `problem` says in words why something could not be reached or read; empty: it could.
"""

from msgspec import Struct


class ClockFacts(Struct, frozen=True):
    """The kernel's view of its wall clock (adjtimex(2)), and what it counts by."""

    synchronized: bool
    max_error_ms: float
    source: str


class LimitFacts(Struct, frozen=True):
    """Limits of this process and of the kernel.

    `nice_floor` is the lowest value setpriority(2) allows us; `conntrack` has the entries in use
    and their limit, None without connection tracking; `datagrams` and `lost_datagrams` count UDP
    packets received since the machine's start, and those for which a receiver had no room.
    """

    fds: int
    nice_floor: int
    receive_buffer_bytes: int
    conntrack: tuple[int, int] | None
    datagrams: int
    lost_datagrams: int


class CpuFacts(Struct, frozen=True):
    """CPUs that this process may use; `quota` in CPUs, None without; `steal_share` since start."""

    usable: int
    quota: float | None
    governors: tuple[str, ...]
    steal_share: float


class MemoryFacts(Struct, frozen=True):
    """Memory that programs can still have, and swap."""

    available_bytes: int
    swap_bytes: int


class VolumeFacts(Struct, frozen=True):
    """The file system of a directory that a setting names; `file_share` is the share of inodes."""

    setting: str
    path: str
    free_bytes: int
    free_share: float
    file_share: float
    in_memory: bool


class NameFacts(Struct, frozen=True):
    """What looking up a name gave, and how long it took."""

    name: str
    addresses: tuple[str, ...]
    took_ms: float
    problem: str = ""


class PortFacts(Struct, frozen=True):
    """Ports of this machine; ranges include both ends.

    `taken` are the UDP ports bound at the media address; `leased` is how many the supervisor
    gave to calls, None if it doesn't say. `ephemeral` is the kernel's range for sockets that don't
    ask for a port, but for those `reserved`.
    """

    taken: frozenset[int]
    leased: int | None
    http_problem: str
    ephemeral: tuple[int, int]
    reserved: tuple[tuple[int, int], ...]


class SupervisorFacts(Struct, frozen=True):
    """Whether a supervisor has the run directory, and what its /health says to us."""

    runs: bool
    status: str = ""
    reason: str = ""
    leased: int | None = 0


class AriFacts(Struct, frozen=True):
    """Asterisk by ARI. `takes_any_password`: None if it was not tried."""

    version: str = ""
    max_open_files: int | None = None
    takes_any_password: bool | None = None
    problem: str = ""


class TlsFacts(Struct, frozen=True):
    """A verified TLS connection: chain, host and time of the certificate were right.

    `expires_s` is seconds since the epoch. `accepts_old`: whether TLS 1.1 or older is spoken too;
    None if it was not tried.
    """

    version: str = ""
    cipher: str = ""
    issuer: str = ""
    expires_s: float = 0.0
    accepts_old: bool | None = None
    problem: str = ""


class VoiceServerFacts(Struct, frozen=True):
    """A voice server, as a worker meets it. `url` without secrets; `tls` None for ws://.

    `accepts_unsigned`: whether it takes a stream without our signature; None if not tried.
    """

    setting: str
    url: str
    name: NameFacts
    tls: TlsFacts | None = None
    handshake_ms: float = 0.0
    accepts_unsigned: bool | None = None
    problem: str = ""


class SipFacts(Struct, frozen=True):
    """The TLS side of SIP, as a trunk meets it."""

    address: str
    tls: TlsFacts


class PathFacts(Struct, frozen=True):
    """A file or directory that others must not read; `mode` are its permission bits."""

    setting: str
    path: str
    mode: int


class AuditFacts(Struct, frozen=True):
    """What the verification of the chain said. `path` empty: no audit log is kept.

    `head` is the last line's hash: noted elsewhere, it shows later that no line was rewritten.
    """

    path: str = ""
    lines: int = 0
    head: str = ""
    problem: str = ""
