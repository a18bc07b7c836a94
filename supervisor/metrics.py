"""What Prometheus scrapes, gathered when it asks. docs/metrics.md lists it for people."""

import platform
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from shim.control import CallStats
from shim.histogram import Histogram
from supervisor.ari.connection import BUCKETS_MS, AriCounters
from supervisor.calls.measures import OUTCOME_NAMES, CallMeasures, StreamMeasures
from supervisor.metric_families import WORKER, Labels, by_label, counter, gauge, histogram, single
from supervisor.status import WorkerFigures
from supervisor.workers.admission import REFUSALS

PROJECT: Final = Path(__file__).parents[1] / "pyproject.toml"
HANDOVERS: Final = ("worker_lost", "worker_replaced", "supervisor_restarted")
NO_WORKER: Final = ("none", "none")
"""The labels of a call that no worker has had."""

RECORDING_COUNTERS: Final = {
    "written_bytes": ("ots_recording_bytes", "What a worker has recorded, sealed."),
    "lost_chunks": ("ots_recording_lost_chunks", "Pieces of a second that weren't recorded."),
    "refused": ("ots_recordings_refused", "Recordings that there was no room for."),
}
WORKER_COUNTERS: Final = {
    "frames_out": ("ots_frames_sent", "Frames sent to callers."),
    "frames_in": ("ots_frames_received", "Frames received from callers."),
    "lost": ("ots_frames_lost", "Callers' frames that never came."),
    "late": ("ots_frames_late", "Callers' frames that came after their successors; not used."),
    "duplicate": ("ots_frames_duplicate", "Callers' frames that came again; not used."),
    "malformed": ("ots_packets_malformed", "Datagrams that are no RTP."),
    "other_payload_type": ("ots_packets_other_type", "RTP packets with anything but PCMU."),
    "send_errors": ("ots_send_errors", "Frames that the kernel did not take."),
    "audio_dropped": (
        "ots_audio_dropped",
        "Callers' frames dropped as the voice server was away or too slow.",
    ),
    "bad_messages": ("ots_bad_messages", "Messages of voice servers that make no sense."),
    "reconnects": ("ots_stream_reconnects", "Streams to voice servers that were lost."),
}
"""By the field of `CallStats`."""
assert set(WORKER_COUNTERS) | {"played_ms"} == set(CallStats.__struct_fields__)


class Figures(Struct, frozen=True):
    """What is measured of the whole. `limits`: so many calls each allows."""

    workers: list[WorkerFigures]
    calls: CallMeasures
    streams: StreamMeasures
    ari: AriCounters
    ari_up: bool
    limits: Mapping[str, int]
    draining: bool
    loop_lag: Histogram


class FiguresCollector(Collector):
    """Turns the figures of the moment into metrics; labels are few and known, never a call."""

    def __init__(self, figures: Callable[[], Figures]) -> None:
        self._figures = figures
        self._version = version()

    def collect(self) -> Iterable[Metric]:
        """Called by prometheus-client for each scrape."""
        figures = self._figures()
        yield from _worker_gauges(figures.workers)
        yield from _worker_counters(figures.workers)
        yield from _worker_histograms(figures.workers)
        yield from _calls(figures)
        yield from _quality(figures.calls)
        yield from _ari(figures.ari, figures.ari_up)
        yield from self._supervisor(figures)

    def _supervisor(self, figures: Figures) -> Iterable[Metric]:
        lag = [((), figures.loop_lag)]
        yield histogram(
            "ots_supervisor_loop_lag_seconds", "How late the supervisor's event loop is.", (), lag
        )
        yield gauge("ots_draining", "Whether no new calls are taken.", (), single(figures.draining))
        labels = ("version", "python")
        values = (self._version, platform.python_version())
        yield gauge("ots_build_info", "What runs; always 1.", labels, [(values, 1)])


def make_registry(figures: Callable[[], Figures]) -> CollectorRegistry:
    """All metrics: ours, and `process_*` of the supervisor."""
    registry = CollectorRegistry()
    registry.register(FiguresCollector(figures))
    ProcessCollector(registry=registry)
    return registry


def version() -> str:
    """The project's version."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))
    return str(project["project"]["version"])


def _at(worker: WorkerFigures) -> Labels:
    return (str(worker.worker), str(worker.cpu))


def _worker_gauges(workers: list[WorkerFigures]) -> Iterable[Metric]:
    each = [(_at(worker), worker) for worker in workers]
    calls = [(at, worker.calls) for at, worker in each]
    yield gauge("ots_active_calls", "Calls that a worker has.", WORKER, calls)
    poor = [(at, worker.poor_calls) for at, worker in each]
    yield gauge(
        "ots_poor_calls", "Calls of a worker with an estimated MOS below 3.6.", WORKER, poor
    )
    up = [(at, worker.up) for at, worker in each]
    yield gauge("ots_worker_up", "Whether a worker takes calls.", WORKER, up)
    memory = [(at, worker.rss_bytes) for at, worker in each]
    yield gauge("ots_worker_resident_memory_bytes", "Memory of a worker.", WORKER, memory)
    ports = [((*at, state), count) for at, worker in each for state, count in worker.ports.items()]
    text = "RTP ports of a worker's slice; quarantined ones rest after a call."
    yield gauge("ots_rtp_ports", text, (*WORKER, "state"), ports)


def _worker_counters(workers: list[WorkerFigures]) -> Iterable[Metric]:
    each = [(_at(worker), worker, worker.totals) for worker in workers]
    for field, (name, text) in WORKER_COUNTERS.items():
        values = [(at, getattr(totals.stats, field)) for at, _, totals in each]
        yield counter(name, text, WORKER, values)
    skipped = [(at, totals.skipped_frames) for at, _, totals in each]
    text = "Frames not sent to callers as the worker was too late for them."
    yield counter("ots_frames_skipped", text, WORKER, skipped)
    cpu = [(at, totals.cpu_seconds) for at, _, totals in each]
    yield counter("ots_worker_cpu_seconds", "CPU time of a worker.", WORKER, cpu)
    deaths = [(at, worker.deaths) for at, worker, _ in each]
    yield counter("ots_worker_deaths", "Worker processes that died unasked.", WORKER, deaths)
    starts = [(at, worker.starts) for at, worker, _ in each]
    yield counter("ots_worker_starts", "Worker processes started.", WORKER, starts)
    for field, (name, text) in RECORDING_COUNTERS.items():
        values = [(at, getattr(totals.recording, field)) for at, _, totals in each]
        yield counter(name, text, WORKER, values)


def _worker_histograms(workers: list[WorkerFigures]) -> Iterable[Metric]:
    texts = {
        "lateness": ("ots_pacer_lateness_seconds", "How late the pacer's slots ran."),
        "depth": ("ots_playout_depth_seconds", "Audio waiting per call, sampled each second."),
        "loop_lag": ("ots_worker_loop_lag_seconds", "How late a worker's event loop is."),
        "barge_in": ("ots_barge_in_seconds", "From clear to the first frame without its audio."),
    }
    for field, (name, text) in texts.items():
        values = [(_at(worker), getattr(worker.totals, field)) for worker in workers]
        yield histogram(name, text, WORKER, values)


def _calls(figures: Figures) -> Iterable[Metric]:
    calls, streams = figures.calls, figures.streams
    cpus = {worker.worker: _at(worker) for worker in figures.workers}
    ended = {(*at, name): 0 for at in cpus.values() for name in OUTCOME_NAMES}
    ended |= {
        (*cpus.get(worker, NO_WORKER), name): count for (worker, name), count in calls.ended.items()
    }
    yield counter("ots_calls_ended", "Calls that are over.", (*WORKER, "outcome"), ended.items())
    refused = by_label(streams.refused, REFUSALS)
    yield counter("ots_calls_refused", "Calls that were not taken.", ("reason",), refused)
    moved = by_label(streams.moved, HANDOVERS)
    text = "Calls that went to another worker, or with one to another supervisor."
    yield counter("ots_call_handovers", text, ("reason",), moved)
    limits = by_label(figures.limits)
    yield gauge("ots_call_limit", "So many calls at once each limit allows.", ("limit",), limits)
    text = "From a caller's arrival to a bridge with both legs."
    yield histogram("ots_call_setup_seconds", text, (), [((), calls.setup)])
    steps = [((step,), times) for step, times in {**calls.steps, "stream": streams.setups}.items()]
    yield histogram("ots_call_setup_step_seconds", "Steps of set-ups.", ("step",), steps)
    text = "From the first try to an open WebSocket, again after each loss."
    connect = [(at, streams.connect[worker]) for worker, at in cpus.items()]
    yield histogram("ots_stream_connect_seconds", text, WORKER, connect)
    yield histogram("ots_call_duration_seconds", "Length of calls.", (), [((), calls.duration)])


def _quality(calls: CallMeasures) -> Iterable[Metric]:
    texts = {
        "jitter": ("ots_call_jitter_seconds", "Mean interarrival jitter of ended calls."),
        "longest_gap": ("ots_call_longest_gap_seconds", "Longest gap in the audio of callers."),
        "first_audio": ("ots_call_first_audio_seconds", "From a call's begin to its first audio."),
    }
    mos = [((), calls.mos)]
    yield histogram("ots_call_mos", "Estimated MOS of callers' audio.", (), mos, per_unit=1)
    for field, (name, text) in texts.items():
        yield histogram(name, text, (), [((), getattr(calls, field))])


def _ari(ari: AriCounters, up: bool) -> Iterable[Metric]:
    yield gauge("ots_ari_connected", "Whether Asterisk's events come in.", (), single(up))
    for name, text, value in (
        ("ots_ari_connects", "Connections to Asterisk's events.", ari.connects),
        ("ots_ari_failed_connects", "Tries to connect that failed.", ari.failed_connects),
        ("ots_ari_events", "Events from Asterisk.", ari.events),
        ("ots_ari_unreadable_events", "Events that make no sense.", ari.unreadable_events),
        ("ots_ari_failed_callbacks", "Events whose handling failed.", ari.failed_callbacks),
        (
            "ots_ari_closed_without_answer",
            "Requests that Asterisk closed unanswered, as it does at its sessionlimit.",
            ari.closed_without_answer,
        ),
    ):
        yield counter(name, text, (), single(value))
    requests = ari.requests.items()
    labels = ("kind", "outcome")
    yield counter("ots_ari_requests", "Requests to Asterisk, by outcome.", labels, requests)
    times = [
        ((kind,), Histogram(BUCKETS_MS, list(took.counts), took.sum_us / 1000))
        for kind, took in ari.durations.items()
    ]
    yield histogram("ots_ari_request_seconds", "Time of requests to Asterisk.", ("kind",), times)
