"""What the console is made of: the state of calls, workers and node at one moment. Pure."""

from msgspec import Struct

from shim.control import CallFigures


class Recent(Struct, frozen=True):
    """What has been counted of a call in the last five to ten seconds, in packets."""

    received: int = 0
    lost: int = 0
    late: int = 0
    dropped: int = 0
    send_errors: int = 0

    @property
    def loss_share(self) -> float:
        """Of the packets that were expected, 0 to 1; one that came late after all is no loss."""
        expected = self.received + self.lost
        return max(0, self.lost) / expected if expected > 0 else 0.0

    @property
    def late_share(self) -> float:
        """Of the packets that came, 0 to 1: those behind their successors, which are dropped."""
        return self.late / self.received if self.received > 0 else 0.0


class CallSeen(Struct, frozen=True):
    """A call. Times in seconds: `age_s` since its begin, `phase_s` since `phase` began.

    `phase` is that of its stream: "setting up", "up", "ending"; "" for a call without one, as
    while a script plays or a phone rings. `status` is the phone call's, in Twilio's words.
    `figures` is None until the worker has told of it. `worker` is -1 for none.
    """

    sid: str
    caller: str
    called: str
    direction: str
    status: str
    phase: str
    worker: int
    age_s: float
    phase_s: float
    figures: CallFigures | None = None
    recent: Recent = Recent()
    held: bool = False


class WorkerSeen(Struct, frozen=True):
    """A worker. `cpu_share` is of its CPU, `late_share` of its pacer's slots, both 0 to 1.

    `overloaded`: it has been late for seconds, and gets no new calls.
    `heartbeat_s` is the age of its heartbeat, None without a process. `died_s` ago it died last,
    None if it has not since the supervisor's start. `cells` are pieces of its slice of ports, in
    order: how many ports of each are leased, and how many are at rest.
    """

    worker: int
    cpu: int
    pid: int
    state: str
    up: bool
    replacing: bool
    calls: int
    poor_calls: int
    cpu_share: float
    late_share: float
    overloaded: bool
    rss_bytes: int
    deaths: int
    starts: int
    heartbeat_s: float | None
    died_s: float | None
    first_port: int
    last_port: int
    ports: dict[str, int]
    cells: list[tuple[int, int]]


class NodeSeen(Struct, frozen=True):
    """The node. `status` is that of /health. `limits`: so many calls each allows.

    `refused` are calls that were not taken since the supervisor's start, by reason; `failed` those
    that ended by a fault since then, by outcome.
    """

    version: str
    status: str
    uptime_s: float
    ari_connected: bool
    ari_reason: str
    draining: bool
    stopping: bool
    limits: dict[str, int]
    refused: dict[str, int]
    failed: dict[str, int]
    audit_problem: str = ""
    audit_lost: int = 0
    recording_lost_chunks: int = 0
    recordings_refused: int = 0


class Seen(Struct, frozen=True):
    """All of it, at `unix_s`."""

    unix_s: float
    node: NodeSeen
    workers: list[WorkerSeen]
    calls: list[CallSeen]
