"""Counts per bucket, added up and taken apart."""

import msgspec

from shim.histogram import Histogram

BOUNDS = (1, 10)


def of(*values: float) -> Histogram:
    """A histogram of these values."""
    histogram = Histogram.of(BOUNDS)
    for value in values:
        histogram.add(value)
    return histogram


def test_buckets() -> None:
    """A value on a bound belongs below it; the last bucket takes the rest."""
    histogram = of(0, 1, 1.5, 10, 11)
    assert (histogram.counts, histogram.count, histogram.total) == ([2, 2, 1], 5, 23.5)


def test_sum_and_difference() -> None:
    """Two together, and what one has more than the other."""
    assert of(1, 5).plus(of(20)) == of(1, 5, 20)
    assert of(1, 5, 20).plus(of(5), times=-1) == of(1, 20)


def test_empty_ones() -> None:
    """One that was never filled takes the other's bounds; neither changes."""
    empty, full = Histogram(), of(5)
    assert (empty.plus(full), full.plus(empty), empty.plus(empty)) == (of(5), of(5), Histogram())
    assert (empty, full) == (Histogram(), of(5))


def test_other_bounds_are_left_out() -> None:
    """A worker of another version can count by bounds of its own: no sum, and no crash."""
    assert of(5).plus(Histogram.of((1, 2, 3))) == of(5)


def test_bounds_travel() -> None:
    """What is sent arrives with its bounds, and can be added to."""
    arrived = msgspec.msgpack.decode(msgspec.msgpack.encode(of(5)), type=Histogram)
    assert arrived.plus(of(5)) == of(5, 5)
