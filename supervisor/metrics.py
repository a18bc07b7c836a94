"""What Prometheus scrapes, gathered when it asks."""

from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from supervisor.status import WorkerFigures


class Figures(Struct, frozen=True):
    """What is measured of the whole."""

    workers: list[WorkerFigures]
    outcomes: Mapping[str, int]
    ari_up: bool
    ari_closed_without_answer: int
    loop_lag_s: float


class FiguresCollector(Collector):
    """Turns the figures of the moment into metrics; labels are worker and CPU, never a call."""

    def __init__(self, figures: Callable[[], Figures]) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        """Called by prometheus-client for each scrape."""
        figures = self._figures()
        labels = ["worker", "cpu"]
        calls = GaugeMetricFamily("ots_active_calls", "Calls that a worker has.", labels=labels)
        up = GaugeMetricFamily("ots_worker_up", "Whether a worker takes calls.", labels=labels)
        cpu = CounterMetricFamily(
            "ots_worker_cpu_seconds", "CPU time of a worker process.", labels=labels
        )
        deaths = CounterMetricFamily(
            "ots_worker_deaths", "Worker processes of a slot that died unasked.", labels=labels
        )
        memory = GaugeMetricFamily(
            "ots_worker_resident_memory_bytes", "Memory of a worker process.", labels=labels
        )
        ports = GaugeMetricFamily(
            "ots_rtp_ports", "RTP ports of a worker's slice.", labels=[*labels, "state"]
        )
        recorded = CounterMetricFamily(
            "ots_recording_bytes", "What a worker has recorded, sealed.", labels=labels
        )
        lost = CounterMetricFamily(
            "ots_recording_lost_chunks",
            "Pieces of a second that could not be recorded.",
            labels=labels,
        )
        refused = CounterMetricFamily(
            "ots_recordings_refused", "Recordings without room on the disk.", labels=labels
        )
        for worker in figures.workers:
            values = [str(worker.worker), str(worker.cpu)]
            calls.add_metric(values, worker.calls)
            up.add_metric(values, worker.up)
            cpu.add_metric(values, worker.cpu_seconds)
            deaths.add_metric(values, worker.deaths)
            memory.add_metric(values, worker.rss_bytes)
            recorded.add_metric(values, worker.recording.written_bytes)
            lost.add_metric(values, worker.recording.lost_chunks)
            refused.add_metric(values, worker.recording.refused)
            for state, count in worker.ports.items():
                ports.add_metric([*values, state], count)
        ended = CounterMetricFamily("ots_calls_ended", "Calls that are over.", labels=["outcome"])
        for outcome, count in figures.outcomes.items():
            ended.add_metric([outcome], count)
        ari = GaugeMetricFamily(
            "ots_ari_connected", "Whether Asterisk's events come in.", value=figures.ari_up
        )
        closed = CounterMetricFamily(
            "ots_ari_closed_without_answer",
            "Requests that Asterisk closed unanswered, as it does at its sessionlimit.",
            value=figures.ari_closed_without_answer,
        )
        lag = GaugeMetricFamily(
            "ots_supervisor_loop_lag_seconds",
            "How late the supervisor's event loop is.",
            value=figures.loop_lag_s,
        )
        recordings = [recorded, lost, refused]
        return [calls, up, cpu, deaths, memory, ports, *recordings, ended, ari, closed, lag]
