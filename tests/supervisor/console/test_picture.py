"""What is sent to the page."""

import time

import msgspec

from shim.control import CallQuality, CallStats
from supervisor.console.judge import Level
from supervisor.console.picture import CallRow, picture
from supervisor.console.seen import Recent
from tests.supervisor.console.make import call, figures, node, seen, stats, worker

NUMBER = "+14155550123"


def row(sid: str, number: int) -> str:
    """A CallSid."""
    return f"{sid}{number:030}"


def test_a_row() -> None:
    """All that the page shows of a call."""
    told = figures(stats=CallStats(frames_in=900, frames_out=1000, late=3, reconnects=2))
    shown = picture(seen(call(figures=told, recent=Recent(95, 5))), None, numbers=False)
    assert shown.calls == [
        CallRow(
            sid=call().sid,
            caller="•••• 23",
            called="•••• 00",
            direction="in",
            state="up",
            worker=0,
            seconds=20,
            packets_in=900,
            packets_out=1000,
            loss=0.05,
            jitter_ms=1.0,
            late=3,
            playout_ms=40,
            first_audio_ms=300,
            mos=4.4,
            stream="up",
            reconnects=2,
            level=2,
            reasons=["loss 5.0 %"],
        )
    ]


def test_a_call_of_which_nothing_was_told() -> None:
    """Unknown is not zero."""
    waiting = call(direction="outbound-api", status="ringing", phase="", worker=-1, figures=None)
    only = picture(seen(waiting), None, numbers=False).calls[0]
    assert (only.direction, only.state, only.stream) == ("out", "ringing", "")
    assert only.packets_in is only.loss is only.mos is only.late is None
    unheard = call(figures=figures(stats=CallStats(frames_out=9), stream_open=False))
    only = picture(seen(unheard), None, numbers=False).calls[0]
    assert (only.packets_in, only.mos, only.loss, only.stream) == (0, None, None, "opening")
    assert picture(seen(call(held=True)), None, numbers=False).calls[0].state == "on hold"


def test_the_suffering_come_first() -> None:
    """Then those to be watched, then the others; the oldest of each first."""
    jitter = figures(jitter_now_ms=21.0)
    lost = figures(stream_open=False, stats=stats(reconnects=1))
    calls = [
        call(sid="young", age_s=1.0),
        call(sid="old", age_s=9.0),
        call(sid="watched", figures=jitter),
        call(sid="suffers", age_s=2.0, figures=lost),
        call(sid="suffers longer", age_s=3.0, figures=lost),
    ]
    shown = picture(seen(*calls), None, numbers=False)
    order = ["suffers longer", "suffers", "watched", "old", "young"]
    assert [each.sid for each in shown.calls] == order
    assert shown.node["suffering"] == 2


def test_numbers_only_when_wanted() -> None:
    """Not a digit more than two is in the whole picture otherwise."""
    moment = seen(call())
    assert NUMBER.encode() in msgspec.json.encode(picture(moment, None, numbers=True))
    hidden = msgspec.json.encode(picture(moment, None, numbers=False))
    assert b"5550123" not in hidden
    assert b"5550100" not in hidden


def test_the_node_and_its_workers() -> None:
    """With what is wrong, in words."""
    moment = seen(
        call(), node=node(draining=True, status="draining"), workers=[worker(died_s=4.24)]
    )
    shown = picture(moment, None, numbers=False)
    assert (shown.status, shown.node["reasons"]) == (
        "draining",
        ["draining: no new calls are taken"],
    )
    assert shown.node["capacity"] == {"limit": "asterisk ports", "most": 100, "left": 99}
    assert shown.workers[0]["level"] is Level.WATCH
    assert shown.workers[0]["died_s"] == 4.2


def test_a_thousand_calls_are_cheap() -> None:
    """The picture of a thousand calls is small, and is made in a fraction of its second."""
    bad = figures(jitter_now_ms=48.0, quality=CallQuality(3.1, 48.0, 90, 400))
    calls = [call(sid=row("CA", n), figures=bad if n % 3 == 0 else figures()) for n in range(1000)]
    began_s = time.process_time()
    data = msgspec.json.encode(picture(seen(*calls), None, numbers=False))
    assert time.process_time() - began_s < 1.0
    assert len(data) < 250_000
