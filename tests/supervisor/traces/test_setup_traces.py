"""Which spans a call's set-up makes: on literal times."""

import itertools

import pytest

from supervisor.calls.state import Call, Phase
from supervisor.traces.setup_traces import (
    ROOT,
    STREAM,
    UNFINISHED,
    Facts,
    SetupTraces,
    Span,
    server_attributes,
)

MS = 1_000_000
SID = "CA000102030405060708090a0b0c0d0e0f"
TRACE_ID = 0x000102030405060708090A0B0C0D0E0F
UNIX_NS = 1_700_000_000_000_000_000
FACTS = Facts("inbound", 3, "wss://voice.example:8443/private/path?key=secret")


def traces(*, sampled: bool = True) -> SetupTraces:
    """Span ids are 1, 2, 3, ..."""
    numbers = itertools.count(1)
    return SetupTraces(lambda: next(numbers), lambda _: sampled)


def a_call() -> Call:
    """It came when the clock stood at 0."""
    return Call(SID, "c1", 0, caller_number="+15557654321", worker=1)


def settled(setups: SetupTraces, now_ms: int) -> list[Span]:
    """What is told at a time; our clock's zero is `UNIX_NS`."""
    return setups.settle(lambda _: FACTS, now_ms * MS, UNIX_NS + now_ms * MS)


def steps(setups: SetupTraces, *times: tuple[str, int, int]) -> None:
    """Steps that are done, from and to ms."""
    for name, began_ms, ended_ms in times:
        setups.step_began(SID, name, began_ms * MS)
        setups.step_ended(SID, name, ended_ms * MS)


def times_ms(span: Span) -> tuple[int, int]:
    """Begin and end since the caller came."""
    return (span.begin_ns - UNIX_NS) // MS, (span.end_ns - UNIX_NS) // MS


def test_a_call_that_comes_up() -> None:
    """A root from the caller's arrival until both legs and the stream are there, and its steps."""
    setups, call = traces(), a_call()
    setups.begin(call)
    steps(setups, ("bridge", 1, 4), ("media", 1, 6), (STREAM, 1, 40), ("join caller", 4, 9))
    assert settled(setups, 20) == []
    call.up_ns, call.phase = 12 * MS, Phase.UP
    [root] = settled(setups, 50)
    assert (root.name, root.trace_id, times_ms(root)) == (ROOT, TRACE_ID, (0, 40))
    assert root.attributes == {
        "ots.call_sid": SID,
        "ots.direction": "inbound",
        "ots.outcome": "up",
        "ots.worker": 1,
        "cpu.logical_number": 3,
    }
    assert {child.name: times_ms(child) for child in root.children} == {
        "bridge": (1, 4),
        "media": (1, 6),
        STREAM: (1, 40),
        "join_caller": (4, 9),
    }
    assert {child.trace_id for child in root.children} == {TRACE_ID}
    assert not any(span.error for span in (root, *root.children))
    assert settled(setups, 60) == []


def test_the_stream_names_its_server_and_no_path() -> None:
    """As OpenTelemetry's conventions have it; a path or a query may be a secret."""
    setups, call = traces(), a_call()
    setups.begin(call)
    steps(setups, (STREAM, 1, 40))
    call.up_ns = 12 * MS
    [root] = settled(setups, 50)
    [stream] = root.children
    assert stream.is_client
    assert stream.attributes == {
        "ots.call_sid": SID,
        "server.address": "voice.example",
        "server.port": 8443,
    }


@pytest.mark.parametrize(
    ("url", "port"), [("wss://h/x", 443), ("https://h", 443), ("ws://h", 80), ("http://h:1", 1)]
)
def test_ports(url: str, port: int) -> None:
    """A URL's own, or its scheme's."""
    assert server_attributes(url) == {"server.address": "h", "server.port": port}


@pytest.mark.parametrize("sampled", [True, False])
def test_the_voice_server_joins_the_stream(sampled: bool) -> None:
    """`traceparent` names the trace, and the span that the stream's step will have."""
    setups, call = traces(sampled=sampled), a_call()
    assert setups.traceparent(SID) == ""
    setups.begin(call)
    parent = setups.traceparent(SID)
    steps(setups, (STREAM, 1, 40))
    call.up_ns = 12 * MS
    [root] = settled(setups, 50)
    [stream] = root.children
    assert parent == f"00-{SID[2:]}-{stream.span_id:016x}-{'01' if sampled else '00'}"
    assert stream.span_id != root.span_id


def test_a_step_that_fails() -> None:
    """It and the root say why, without the caller's number; what was under way is unfinished."""
    setups, call = traces(), a_call()
    setups.begin(call)
    setups.step_began(SID, "bridge", 1 * MS)
    setups.step_began(SID, STREAM, 2 * MS)
    setups.step_ended(SID, "bridge", 5 * MS, "no way to +15557654321")
    call.phase, call.reason = Phase.ENDING, "bridge failed: no way to +15557654321"
    [root] = settled(setups, 6)
    assert (root.error, times_ms(root)) == ("bridge failed: no way to ***", (0, 6))
    assert root.attributes["ots.outcome"] == root.attributes["error.type"] == "setup_failed"
    bridge, stream = root.children
    assert (bridge.error, times_ms(bridge)) == ("no way to ***", (1, 5))
    assert (stream.error, times_ms(stream)) == (UNFINISHED, (2, 6))


def test_a_voice_server_that_is_not_reached() -> None:
    """The stream's step has the reason, though both legs are up."""
    setups, call = traces(), a_call()
    setups.begin(call)
    steps(setups, ("bridge", 1, 4))
    setups.step_began(SID, STREAM, 2 * MS)
    call.up_ns, call.phase = 12 * MS, Phase.UP
    assert settled(setups, 13) == []
    call.phase, call.reason = Phase.ENDING, "voice server unreachable: no answer within 2 s"
    [root] = settled(setups, 2000)
    assert root.attributes["ots.outcome"] == "stream_failed"
    assert [child.error for child in root.children] == ["", call.reason]


def test_a_caller_who_hangs_up_before() -> None:
    """That is nobody's fault: no error anywhere."""
    setups, call = traces(), a_call()
    setups.begin(call)
    setups.step_began(SID, "bridge", 1 * MS)
    call.phase, call.reason = Phase.ENDING, "caller hung up"
    [root] = settled(setups, 6)
    assert root.attributes["ots.outcome"] == "abandoned"
    assert not any(span.error for span in (root, *root.children))


def test_a_call_that_is_refused() -> None:
    """A root without steps and worker, and the reason."""
    setups, call = traces(), Call(SID, "c1", 0)
    setups.begin(call)
    call.phase, call.reason = Phase.ENDING, "refused: MAX_CALLS is 3"
    [root] = setups.settle(lambda _: Facts("inbound", None, "wss://h/"), 1, UNIX_NS)
    assert (root.children, root.error) == ((), "refused: MAX_CALLS is 3")
    assert not {"ots.worker", "cpu.logical_number"} & set(root.attributes)


def test_what_comes_late_is_not_kept() -> None:
    """Steps of a call that is told already, or that was never seen, leave nothing behind."""
    setups, call = traces(), a_call()
    setups.begin(call)
    call.phase = Phase.ENDING
    assert len(settled(setups, 6)) == 1
    steps(setups, ("bridge", 1, 7))
    setups.step_began("CA1", "bridge", 1)
    assert settled(setups, 8) == []
    assert setups.traceparent(SID) == ""
