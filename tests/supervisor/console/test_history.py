"""The ring of samples."""

from msgspec.structs import replace

from shim.control import CallQuality
from supervisor.console.history import KEPT, History, Sample
from tests.supervisor.console.make import call, figures, node, seen, worker


def test_a_sample() -> None:
    """Calls, those that suffer, their quality, and the latest worker."""
    history = History()
    bad = figures(jitter_now_ms=50.0, quality=CallQuality(3.0, 50.0, 80, 300))
    moment = seen(call(), call(figures=bad), call(figures=None, phase="", worker=-1))
    moment = replace(moment, workers=[worker(late_share=0.01), worker(worker=1, late_share=0.03)])
    assert history.add(moment) == Sample(
        unix_s=1000,
        calls=3,
        suffering=1,
        mos=3.7,
        lowest_mos=3.0,
        jitter_ms=25.5,
        highest_jitter_ms=50.0,
        late_share=0.03,
        setup_failed=0,
        broken=0,
    )


def test_failures_are_those_since_the_sample_before() -> None:
    """What was counted before the first look is nobody's news."""
    history = History()
    counts = [
        {"setup_failed": 5, "refused": 1, "stream_failed": 2},
        {"setup_failed": 6, "refused": 3, "stream_failed": 2},
        {"setup_failed": 6, "refused": 3, "stream_failed": 3, "media_lost": 1, "worker_failed": 1},
    ]
    samples = [history.add(seen(node=node(failed=each))) for each in counts]
    assert [(each.setup_failed, each.broken) for each in samples] == [(0, 0), (3, 0), (0, 3)]
    assert samples[0].mos is None


def test_an_hour_is_kept() -> None:
    """Older samples make room."""
    history = History()
    assert history.last is None
    for number in range(KEPT + 3):
        history.add(seen(unix_s=float(number)))
    columns = history.columns()
    assert columns["unix_s"] == [float(number) for number in range(3, KEPT + 3)]
    assert set(columns) == set(Sample.__struct_fields__)
    assert history.last is not None
    assert history.last.unix_s == KEPT + 2
