"""Which calls suffer and why: each reason at its threshold, and not below it."""

import pytest

from shim.control import CallQuality
from supervisor.console.judge import (
    Finding,
    Level,
    capacity,
    judge_call,
    judge_node,
    judge_worker,
    worst,
)
from supervisor.console.seen import CallSeen, NodeSeen, Recent, WorkerSeen
from tests.supervisor.console.make import call, figures, node, stats, worker

WATCH, SEVERE = Level.WATCH, Level.SEVERE


def quality(**changes: float | None) -> CallQuality:
    """A fine call's quality, but for this."""
    fields = {"mos": 4.4, "jitter_ms": 1.0, "longest_gap_ms": 22, "first_audio_ms": 300}
    return CallQuality(**(fields | changes))  # type: ignore[arg-type]


CALLS = [
    (call(), []),
    (call(figures=figures(jitter_now_ms=19.9)), []),
    (call(figures=figures(jitter_now_ms=20.0)), [Finding(WATCH, "jitter 20 ms")]),
    (call(figures=figures(jitter_now_ms=48.2)), [Finding(SEVERE, "jitter 48 ms")]),
    (call(figures=figures(jitter_now_ms=48.2, stats=stats(frames_in=249))), []),
    (call(recent=Recent(received=9900, lost=99)), []),
    (call(recent=Recent(received=980, lost=20)), [Finding(WATCH, "loss 2.0 %")]),
    (call(recent=Recent(received=958, lost=42)), [Finding(SEVERE, "loss 4.2 %")]),
    (call(recent=Recent(received=20, lost=1)), []),  # a single packet is no loss to speak of
    (call(recent=Recent(received=20, lost=-3)), []),  # they came late after all
    (call(recent=Recent(received=1000, late=9)), []),
    (call(recent=Recent(received=1000, late=10)), [Finding(WATCH, "packets late 1 %")]),
    (call(recent=Recent(received=1000, late=440)), [Finding(SEVERE, "packets late 44 %")]),
    (call(recent=Recent(received=10, late=1)), []),
    (call(figures=figures(silent_ms=999)), []),
    (call(figures=figures(silent_ms=1000)), [Finding(WATCH, "caller not heard for 1 s")]),
    (call(figures=figures(silent_ms=3000)), [Finding(SEVERE, "caller not heard for 3 s")]),
    (call(figures=figures(quality=quality(mos=3.6))), []),
    (call(figures=figures(quality=quality(mos=3.59))), [Finding(SEVERE, "MOS 3.6")]),
    (call(figures=figures(quality=quality(mos=1.0), stats=stats(frames_in=100))), []),
    (call(recent=Recent(send_errors=3)), [Finding(SEVERE, "3 packets could not be sent")]),
    (
        call(recent=Recent(received=250, dropped=12)),
        [Finding(SEVERE, "voice server too slow, 12 packets dropped")],
    ),
    (
        call(figures=figures(stream_open=False, stats=stats(reconnects=1))),
        [Finding(SEVERE, "voice server lost, reconnecting")],
    ),
    (
        call(figures=figures(stream_open=False, stats=stats(played_ms=20))),  # by another worker
        [Finding(SEVERE, "voice server lost, reconnecting")],
    ),
    (call(phase_s=1.9, figures=figures(stream_open=False)), []),
    (
        call(phase_s=4.0, figures=figures(stream_open=False)),
        [Finding(SEVERE, "voice server not reached for 4 s")],
    ),
    (call(phase_s=7.9, figures=figures(quality=quality(first_audio_ms=None))), []),
    (
        call(phase_s=8.0, figures=figures(quality=quality(first_audio_ms=None))),
        [Finding(WATCH, "voice server has said nothing yet")],
    ),
    (
        call(figures=figures(quality=quality(first_audio_ms=3400))),
        [Finding(WATCH, "first audio after 3.4 s")],
    ),
    (call(age_s=61.0, figures=figures(quality=quality(first_audio_ms=3400))), []),
    (call(phase="setting up", phase_s=2.9, figures=None), []),
    (
        call(phase="setting up", phase_s=4.0, figures=None),
        [Finding(SEVERE, "set-up takes 4 s")],
    ),
    (call(phase="ending", figures=figures(silent_ms=9000)), []),  # nobody talks any more
    (call(phase="", worker=-1, figures=None), []),  # a script without a stream
]


@pytest.mark.parametrize(("seen", "expected"), CALLS)
def test_reasons_of_calls(seen: CallSeen, expected: list[Finding]) -> None:
    """In words, with how bad it is."""
    assert judge_call(seen, worker()) == expected


@pytest.mark.parametrize(
    ("its_worker", "text"),
    [
        (worker(up=False, state="starting"), "worker 0 is down"),
        (None, "worker 0 is down"),
        (worker(heartbeat_s=0.5), "worker 0 does not answer"),
        (worker(late_share=0.3, overloaded=True), "worker 0 is late"),
    ],
)
def test_a_call_suffers_from_its_worker(its_worker: WorkerSeen | None, text: str) -> None:
    """Whatever the call's own figures say, which may be old."""
    assert judge_call(call(), its_worker) == [Finding(SEVERE, text)]


def test_the_worst_reason_comes_first() -> None:
    """So that it is the one that is read."""
    both = call(figures=figures(silent_ms=1000, jitter_now_ms=48))
    assert [finding.level for finding in judge_call(both, worker())] == [SEVERE, WATCH]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (worker(), []),
        (worker(up=False, state="parked", heartbeat_s=None), [Finding(SEVERE, "parked")]),
        (worker(heartbeat_s=0.7), [Finding(SEVERE, "does not answer for 0.7 s")]),
        (worker(died_s=4.2), [Finding(WATCH, "died 4 s ago")]),
        (worker(died_s=61.0), []),
        (worker(late_share=0.019), []),
        (worker(late_share=0.02), [Finding(WATCH, "late in 2 % of slots")]),
        (worker(late_share=0.34), [Finding(SEVERE, "late in 34 % of slots")]),
        (worker(cpu_share=0.85), [Finding(WATCH, "CPU at 85 %")]),
    ],
)
def test_reasons_of_workers(seen: WorkerSeen, expected: list[Finding]) -> None:
    """The same for workers."""
    assert judge_worker(seen) == expected


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (node(), []),
        (
            node(ari_connected=False, ari_reason="connection refused"),
            [Finding(SEVERE, "Asterisk is not connected: connection refused")],
        ),
        (
            node(audit_problem="No space left on device"),
            [Finding(SEVERE, "the audit log can't be written: No space left on device")],
        ),
        (node(recording_lost_chunks=2), [Finding(WATCH, "recording: 2 pieces lost, 0 refused")]),
        (node(limits={"max_calls": 12}), [Finding(WATCH, "room for 1 more calls (MAX_CALLS)")]),
        (node(draining=True), [Finding(WATCH, "draining: no new calls are taken")]),
    ],
)
def test_reasons_of_the_node(seen: NodeSeen, expected: list[Finding]) -> None:
    """With eleven calls."""
    assert judge_node(seen, 11) == expected


def test_capacity() -> None:
    """The smallest limit counts; there is never less than no room."""
    assert capacity(node(), 40) == ("asterisk_ports", 60)
    assert capacity(node(), 140) == ("asterisk_ports", 0)
    assert capacity(node(limits={}), 1) == ("", 0)
    assert worst([]) is Level.FINE
