"""From our counts to Prometheus's families."""

from prometheus_client import generate_latest

from shim.control import CallFigures, CallQuality, CallStats, WorkerTotals
from shim.histogram import Histogram
from supervisor.ari.connection import AriCounters
from supervisor.calls.measures import CallMeasures, StreamMeasures, is_poor
from supervisor.metric_families import by_label, histogram
from supervisor.metrics import Figures, make_registry, version
from supervisor.status import WorkerFigures


def figures(*workers: WorkerFigures) -> Figures:
    """Those of a supervisor to which nothing has happened yet."""
    return Figures(
        workers=list(workers),
        calls=CallMeasures(),
        streams=StreamMeasures(),
        ari=AriCounters(),
        ari_up=True,
        limits={"rtp_ports": 10, "max_calls": 3},
        draining=False,
        loop_lag=Histogram(),
    )


def worker(totals: WorkerTotals | None = None) -> WorkerFigures:
    """A worker that has just started, or has counted that much."""
    return WorkerFigures(
        worker=0,
        cpu=4,
        pid=1,
        state="ready",
        up=True,
        calls=2,
        ports={"free": 10, "leased": 2, "quarantined": 0},
        deaths=0,
        starts=1,
        rss_bytes=1,
        late_share=0.0,
        poor_calls=1,
        totals=totals or WorkerTotals(),
    )


def exposed(found: Figures) -> list[str]:
    """The lines of /metrics."""
    return generate_latest(make_registry(lambda: found)).decode().splitlines()


def test_a_histogram_in_seconds() -> None:
    """Milliseconds become seconds, counts become cumulative, as the format wants it."""
    values = [(("a",), Histogram((1, 20), [2, 3, 1], 100.0))]
    family = histogram("x_seconds", "Text.", ("label",), values)
    found = [(sample.name, sample.labels.get("le"), sample.value) for sample in family.samples]
    assert found == [
        ("x_seconds_bucket", "0.001", 2),
        ("x_seconds_bucket", "0.02", 5),
        ("x_seconds_bucket", "+Inf", 6),
        ("x_seconds_count", None, 6),
        ("x_seconds_sum", None, 0.1),
    ]


def test_series_begin_at_0() -> None:
    """The first refusal is an increase, not a series that was not there before."""
    assert by_label({"b": 2, "c": 1}, ("a", "b")) == [(("a",), 0), (("b",), 2), (("c",), 1)]
    lines = exposed(figures(worker()))
    assert 'ots_calls_refused_total{reason="max_calls"} 0.0' in lines
    assert 'ots_calls_ended_total{cpu="4",outcome="stream_failed",worker="0"} 0.0' in lines


def test_what_a_worker_tells() -> None:
    """Its counters have its number and its CPU as labels."""
    lines = exposed(figures(worker(WorkerTotals(CallStats(lost=7), skipped_frames=3))))
    for line in (
        'ots_frames_lost_total{cpu="4",worker="0"} 7.0',
        'ots_frames_skipped_total{cpu="4",worker="0"} 3.0',
        'ots_active_calls{cpu="4",worker="0"} 2.0',
        'ots_poor_calls{cpu="4",worker="0"} 1.0',
        'ots_rtp_ports{cpu="4",state="leased",worker="0"} 2.0',
        'ots_call_limit{limit="max_calls"} 3.0',
    ):
        assert line in lines


def test_a_call_that_no_worker_had() -> None:
    """A refused call counts as ended, at no worker."""
    found = figures(worker())
    found.calls.ended[-1, "refused"] = 4
    line = 'ots_calls_ended_total{cpu="none",outcome="refused",worker="none"} 4.0'
    assert line in exposed(found)


def test_the_version() -> None:
    """That of pyproject.toml."""
    lines = exposed(figures())
    assert any(f'version="{version()}"' in line for line in lines if "ots_build_info{" in line)


def test_poor_calls() -> None:
    """Judged by the estimate, and not in the first seconds."""
    good, bad = CallQuality(mos=3.7), CallQuality(mos=3.5)
    late, soon = CallStats(frames_in=250), CallStats(frames_in=249)
    calls = [
        CallFigures("CA1", stats, quality, 0, True)
        for stats, quality in ((late, good), (late, bad), (soon, bad))
    ]
    assert [is_poor(call) for call in calls] == [False, True, False]
