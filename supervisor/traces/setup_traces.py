"""What is timed of each call's set-up, and the spans that it makes when the set-up is over. Pure.

A call's trace has the CallSid's 32 hex digits as its id, so who has one has the other. Its root is
the set-up: from the caller's arrival until audio can go both ways (both legs in the bridge, the
stream open), or until the call ends before that.
"""

from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from shim.masking import mask
from supervisor.calls.measures import outcome
from supervisor.calls.state import Call, Phase

ROOT: Final = "call set-up"
STREAM: Final = "stream"
NO_FAULT: Final = frozenset({"abandoned", "caller_hung_up", "stream_ended", "shutdown"})
"""Outcomes of a set-up that didn't get to its end, and that nobody has to mend."""
UNFINISHED: Final = "not done when the set-up ended"


class Span(Struct, frozen=True):
    """A span to be told, with its children. Times are Unix nanoseconds.

    `error`: why it failed, with no caller's data; empty: it didn't. `is_client`: it is a request to
    another server.
    """

    name: str
    trace_id: int
    span_id: int
    begin_ns: int
    end_ns: int
    attributes: dict[str, str | int]
    error: str = ""
    is_client: bool = False
    children: "tuple[Span, ...]" = ()


class Facts(Struct, frozen=True):
    """What is known of a call beyond its table: direction, the worker's CPU, the voice server."""

    direction: str
    cpu: int | None
    url: str


class Step(Struct):
    """A step of a set-up. Times are monotonic nanoseconds, 0 for "not yet"."""

    span_id: int
    began_ns: int = 0
    ended_ns: int = 0
    error: str = ""


class Setup(Struct):
    """A set-up that goes on; `steps` by name. `open_ns`: since when the stream is open, or 0."""

    call: Call
    span_id: int
    steps: dict[str, Step] = {}
    open_ns: int = 0


class SetupTraces:
    """The set-ups that go on.

    Args:
        new_span_id: 64 random bits, not 0.
        is_sampled: whether a trace will be told, by its id.
    """

    def __init__(self, new_span_id: Callable[[], int], is_sampled: Callable[[int], bool]) -> None:
        self._new_span_id = new_span_id
        self._is_sampled = is_sampled
        self._setups: dict[str, Setup] = {}

    def begin(self, call: Call) -> None:
        """A caller is there."""
        self._setups[call.call_sid] = Setup(call, self._new_span_id())

    def traceparent(self, call_sid: str) -> str:
        """What joins the voice server's spans to the step `stream` (W3C Trace Context, 3.2)."""
        setup = self._setups.get(call_sid)
        if setup is None:
            return ""
        trace_id, span_id = trace_id_of(call_sid), self._step(setup, STREAM).span_id
        return traceparent(trace_id, span_id, sampled=self._is_sampled(trace_id))

    def step_began(self, call_sid: str, step: str, now_ns: int) -> None:
        """A step was begun."""
        if setup := self._setups.get(call_sid):
            self._step(setup, step).began_ns = now_ns

    def step_ended(self, call_sid: str, step: str, now_ns: int, error: str = "") -> None:
        """A step is done, or has failed."""
        if setup := self._setups.get(call_sid):
            ended = self._step(setup, step)
            ended.ended_ns, ended.error = now_ns, error
            if step == STREAM:
                setup.open_ns = setup.open_ns or now_ns

    def settle(self, facts: Callable[[Call], Facts], now_ns: int, unix_ns: int) -> list[Span]:
        """Forget the set-ups that are over, and return their spans. Both times are now."""
        over = {
            sid: setup
            for sid, setup in self._setups.items()
            if setup.call.phase is Phase.ENDING or (setup.call.up_ns and setup.open_ns)
        }
        for sid in over:
            del self._setups[sid]
        return [
            describe(setup, facts(setup.call), now_ns, unix_ns - now_ns) for setup in over.values()
        ]

    def _step(self, setup: Setup, step: str) -> Step:
        name = step.replace(" ", "_")
        if name not in setup.steps:
            setup.steps[name] = Step(self._new_span_id())
        return setup.steps[name]


def trace_id_of(call_sid: str) -> int:
    """A call's trace: its CallSid is CA and 128 random bits."""
    return int(call_sid[2:], 16)


def traceparent(trace_id: int, span_id: int, *, sampled: bool) -> str:
    """The header that names a span to another program (W3C Trace Context, 3.2)."""
    return f"00-{trace_id:032x}-{span_id:016x}-{int(sampled):02x}"


def describe(setup: Setup, facts: Facts, now_ns: int, offset_ns: int) -> Span:
    """A set-up's spans. `offset_ns` turns our times into Unix time."""
    call = setup.call
    is_up = bool(call.up_ns and setup.open_ns)
    how = "up" if is_up else outcome(call)
    failed = not is_up and how not in NO_FAULT
    end_ns = max(call.up_ns, setup.open_ns) if is_up else now_ns
    about: dict[str, str | int] = {
        "ots.call_sid": call.call_sid,
        "ots.direction": facts.direction,
        "ots.outcome": how,
    }
    if call.worker >= 0:
        about["ots.worker"] = call.worker
    if facts.cpu is not None:
        about["cpu.logical_number"] = facts.cpu
    return Span(
        name=ROOT,
        trace_id=trace_id_of(call.call_sid),
        span_id=setup.span_id,
        begin_ns=call.started_ns + offset_ns,
        end_ns=end_ns + offset_ns,
        attributes=about | ({"error.type": how} if failed else {}),
        error=mask(call.reason) if failed else "",
        children=tuple(
            _child(setup, name, (end_ns, offset_ns), (how if failed else "", facts.url))
            for name, step in setup.steps.items()
            if step.began_ns
        ),
    )


def _child(setup: Setup, name: str, times: tuple[int, int], about: tuple[str, str]) -> Span:
    """A step's span. Times: the root's end, and the offset; about: the fault, and the URL."""
    call, step = setup.call, setup.steps[name]
    (end_ns, offset_ns), (fault, url) = times, about
    error, is_stream = step.error, name == STREAM
    if not step.ended_ns and fault:
        error = call.reason if is_stream and fault == "stream_failed" else UNFINISHED
    attributes: dict[str, str | int] = {"ots.call_sid": call.call_sid}
    return Span(
        name=name,
        trace_id=trace_id_of(call.call_sid),
        span_id=step.span_id,
        begin_ns=step.began_ns + offset_ns,
        end_ns=(step.ended_ns or max(end_ns, step.began_ns)) + offset_ns,
        attributes=attributes
        | ({"error.type": fault or "setup_failed"} if error else {})
        | (server_attributes(url) if is_stream else {}),
        error=mask(error),
        is_client=is_stream,
    )


def server_attributes(url: str) -> dict[str, str | int]:
    """A server as OpenTelemetry's conventions name it; no path and no query."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"wss": 443, "https": 443}.get(parts.scheme, 80)
    except ValueError:  # a host or a port that can't be one
        return {}
    return {"server.address": parts.hostname or "", "server.port": port}
