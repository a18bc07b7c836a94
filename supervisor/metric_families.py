"""Metrics of prometheus-client from our own counts: names, units, labels.

Names follow Prometheus's conventions (prometheus.io/docs/practices/naming): base units, counters
end in `_total`, which the library adds.
"""

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Final, TypeAlias

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from shim.histogram import Histogram

Labels: TypeAlias = tuple[str, ...]
Values: TypeAlias = Iterable[tuple[Labels, float]]

WORKER: Final = ("worker", "cpu")


def gauge(name: str, text: str, labels: Labels, values: Values) -> Metric:
    """What goes up and down."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for at, value in values:
        family.add_metric(at, value)
    return family


def counter(name: str, text: str, labels: Labels, values: Values) -> Metric:
    """What only grows."""
    family = CounterMetricFamily(name, text, labels=labels)
    for at, value in values:
        family.add_metric(at, value)
    return family


def histogram(
    name: str,
    text: str,
    labels: Labels,
    values: Iterable[tuple[Labels, Histogram]],
    per_unit: float = 1000,
) -> Metric:
    """Counts per bucket; ours are in ms, and 1000 of them make the second of the metric."""
    family = HistogramMetricFamily(name, text, labels=labels)
    for at, value in values:
        bounds = [*(str(float(bound) / per_unit) for bound in value.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(value.counts or [0]), strict=True))
        family.add_metric(at, buckets, value.total / per_unit)
    return family


def single(value: float) -> Values:
    """The one value of a metric without labels."""
    return [((), value)]


def by_label(counts: Mapping[str, int], names: Iterable[str] = ()) -> Values:
    """A count for each value of one label; `names` have one even if it is 0.

    A series that begins with its first event has no rate before the second.
    """
    return [((name,), counts.get(name, 0)) for name in dict.fromkeys([*names, *counts])]
