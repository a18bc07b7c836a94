"""What ARI's REST calls and its events share: settings, counters, back-off, reasons of failure."""

import base64
import errno
import os
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from msgspec import Struct, field

from supervisor.ari.events import AriError, AriRefused

BACK_OFF_FIRST_S: Final = 0.1
BACK_OFF_LIMIT_S: Final = 10.0
KEEP_ALIVE_S: Final = 10.0
"""Below Asterisk's `session_keep_alive` of 15 s (http.conf), so that we are the one who drops an
idle connection. The other way round a POST can meet a connection that is just being closed."""
BUCKETS_MS: Final = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000)

REFUSALS: Final = {
    401: "wrong user or password (401)",
    403: "user, address or permission refused (403)",
    404: "no ARI there (404): is it enabled in ari.conf and http.conf?",
    503: "not ready (503)",
}

CONNECTION_ERRORS: Final = (aiohttp.ClientError, OSError)
"""All that a failing connection raises; TimeoutError is an OSError."""


class AriSettings(Struct, frozen=True):
    """Where ARI is, as whom, and for which Stasis app. Times in seconds.

    `base` is http(s)://host:port, with or without /ari at its end. REST uses `connections` of
    http.conf's `sessionlimit`, the events one more. A silent peer is noticed `ping_idle_s` +
    `ping_reply_s` after its last sign of life.

    Raises:
        ValueError: a value is not usable; the text names it and what is allowed.
    """

    base: str
    user: str
    password: str
    app: str
    connections: int = 32
    request_timeout_s: float = 5.0
    ping_idle_s: float = 5.0
    ping_reply_s: float = 5.0

    def __post_init__(self) -> None:
        if "@" in self.base:
            raise ValueError("base holds an @; user and password have fields of their own")
        if not _is_base(self.base):
            raise ValueError(f"base is {self.base!r}, allowed is http://host:port or https://…")
        if not self.user or ":" in self.user:
            raise ValueError(f"user is {self.user!r}, allowed is a name without a colon")
        if not self.password:
            raise ValueError("password is empty, needed is the user's from ari.conf")
        if not self.app or any(c.isspace() or c == "," for c in self.app):
            raise ValueError(f"app is {self.app!r}, allowed is one name without commas and spaces")
        for name in ("connections", "request_timeout_s", "ping_idle_s", "ping_reply_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, allowed is more than 0")

    def __repr__(self) -> str:
        return f"AriSettings(base={self.base!r}, user={self.user!r}, app={self.app!r})"

    @property
    def root(self) -> str:
        """The URL before all ARI paths, without a slash at its end."""
        return self.base.rstrip("/").removesuffix("/ari") + "/ari"


def _is_base(base: str) -> bool:
    try:
        url = urlsplit(base)
        host, port = (url.hostname or "").encode("idna"), url.port
    except ValueError:  # of a port or a host that cannot be one
        return False
    plain = not url.query and not url.fragment
    return url.scheme in ("http", "https") and bool(host) and port != 0 and plain


def open_session(settings: AriSettings) -> aiohttp.ClientSession:
    """The HTTP session for both; it sends the credentials and has no time-outs of its own."""
    login = base64.b64encode(f"{settings.user}:{settings.password}".encode()).decode()
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=settings.connections + 1,  # the events hold one all the time
            keepalive_timeout=KEEP_ALIVE_S,
        ),
        headers={"Authorization": f"Basic {login}"},
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
    )


class Durations(Struct):
    """How long requests took: a count for each of BUCKETS_MS, one for all above, and the sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_MS) + 1))
    sum_us: int = 0

    def add(self, duration_us: int) -> None:
        """Count one request."""
        self.counts[bisect_left(BUCKETS_MS, duration_us / 1000)] += 1
        self.sum_us += duration_us


class AriCounters(Struct):
    """What happened since the start, for metrics.

    `requests` counts by (kind, outcome), where the kind is the name of the call and the outcome
    "ok", "cancelled" or the error's; `durations` has the time by kind, whatever the outcome.
    `closed_without_answer` grows when Asterisk is at its `sessionlimit`.
    """

    events: int = 0
    unreadable_events: int = 0
    failed_callbacks: int = 0
    connects: int = 0
    failed_connects: int = 0
    closed_without_answer: int = 0
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    durations: defaultdict[str, Durations] = field(default_factory=lambda: defaultdict(Durations))

    @contextmanager
    def measure(self, kind: str) -> Iterator[None]:
        """Count and time one request."""
        started_ns, outcome = time.monotonic_ns(), "cancelled"
        try:
            yield
            outcome = "ok"
        except AriError as error:
            outcome = error.outcome
            raise
        finally:
            self.requests[kind, outcome] += 1
            self.durations[kind].add((time.monotonic_ns() - started_ns) // 1000)


def retry_delay_s(attempt: int, fraction: float) -> float:
    """The wait before retry number `attempt`, from 0: exponential back-off with full jitter.

    `fraction`, in [0, 1), is chance: retries spread evenly over a range that doubles from
    BACK_OFF_FIRST_S up to BACK_OFF_LIMIT_S.
    """
    return fraction * min(BACK_OFF_LIMIT_S, BACK_OFF_FIRST_S * 2.0 ** min(attempt, 10))


def why_failed(error: BaseException) -> str:
    """A failed connection in words for the log and /health; the same words for the same cause."""
    match error:
        case AriRefused(status=status) | aiohttp.WSServerHandshakeError(status=status):
            return REFUSALS.get(status, f"answered with {status}")
        case aiohttp.ClientResponseError():
            return "answered, but not in HTTP"
        case aiohttp.ClientConnectorDNSError():
            return "unknown host"
        case TimeoutError():
            return "no answer in time"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientConnectionResetError():
            return "closed without an answer (is sessionlimit in http.conf too low?)"
        case aiohttp.ClientSSLError():
            return f"no TLS connection: {error}"
        case OSError(errno=int(number)) if number in errno.errorcode:
            return os.strerror(number).lower()
    return f"{type(error).__name__}: {error}"


def was_cut_off(error: Exception) -> bool:
    """Whether a connection that stood broke before the answer was complete."""
    broken = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)
    return isinstance(error, broken) and not isinstance(error, aiohttp.ClientConnectorError)


def was_never_sent(error: Exception) -> bool:
    """Whether Asterisk cannot have seen the request: the connection was closed before the writing.

    Asterisk accepts and closes at its `sessionlimit`, often before a request is written. Ours have
    no body, so that aiohttp writes them in one piece or, with this error, not at all.
    """
    return isinstance(error, aiohttp.ClientConnectionResetError)
