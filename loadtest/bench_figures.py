"""The benchmark's figures: what was measured of each contender, how they compare, and a table.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from loadtest.bench_load import LoadReport

NAMES: Final = {"ours": "ours", "floor": "C floor", "textbook": "textbook"}
FOREIGN_MOST: Final = 0.05
"""If other programs took more of the measured CPU than this share, the run says little."""


class Measured(msgspec.Struct, frozen=True):
    """One contender.

    `us_per_frame_pair` is its CPU time, user and system, for one frame in and one frame out, in
    microseconds. `cpu_fraction` is the part of one CPU that it used, `foreign_fraction` the part
    of the measured CPUs that others used meanwhile (including interrupts; by the ticks of
    /proc/stat, so give or take a percent). `rss_kb` is all its memory, `rss_kb_per_call` what each
    call adds, None if there were too few calls to tell. `helpers_us_per_frame_pair` is the CPU
    time of processes that it has started on other CPUs.
    """

    calls: int
    us_per_frame_pair: float
    cpu_fraction: float
    foreign_fraction: float
    rss_kb: int
    rss_kb_per_call: float | None
    load: LoadReport
    helpers_us_per_frame_pair: float = 0.0

    @property
    def calls_per_core(self) -> float:
        """So many calls would take a whole CPU."""
        return self.calls / self.cpu_fraction


class Comparison(msgspec.Struct, frozen=True):
    """The figures of a run, None where a contender was not measured.

    `ratio_to_*` is ours divided by the other's CPU time per frame pair. `fell_behind`: whether
    the load generator was too slow for any contender, so that the run counts for nothing.
    """

    calls: int
    seconds: float
    tls: bool
    workers: int
    ours_us_per_frame_pair: float | None
    floor_us_per_frame_pair: float | None
    textbook_us_per_frame_pair: float | None
    textbook_calls: int | None
    ratio_to_floor: float | None
    ratio_to_textbook: float | None
    sent_per_second_per_call: float | None
    off_2ms_fraction: float | None
    floor_off_2ms_fraction: float | None
    loss_fraction: float | None
    rss_kb_per_call: float | None
    fell_behind: bool
    contenders: dict[str, Measured]


class Run(msgspec.Struct, frozen=True):
    """What was asked for. The contenders are measured in turn, `rounds` times."""

    calls: int
    seconds: float
    warm_up_s: float = 3.0
    tls: bool = False
    workers: int = 1
    rounds: int = 1
    first_port: int = 30000
    only: tuple[str, ...] = tuple(NAMES)


def median(rounds: Sequence[Measured]) -> Measured:
    """The round of the median CPU time; of an even number, the better of the two."""
    return sorted(rounds, key=lambda m: m.us_per_frame_pair)[(len(rounds) - 1) // 2]


def compare(run: Run, measured: Mapping[str, Measured]) -> Comparison:
    """Put the contenders' figures beside each other."""

    def of(name: str, figure: Callable[[Measured], float | None]) -> float | None:
        return figure(measured[name]) if name in measured else None

    textbook = measured.get("textbook")
    ours_us, floor_us, textbook_us = (of(name, lambda m: m.us_per_frame_pair) for name in NAMES)
    return Comparison(
        calls=run.calls,
        seconds=run.seconds,
        tls=run.tls,
        workers=run.workers,
        ours_us_per_frame_pair=ours_us,
        floor_us_per_frame_pair=floor_us,
        textbook_us_per_frame_pair=textbook_us,
        textbook_calls=textbook.calls if textbook else None,
        ratio_to_floor=ours_us / floor_us if ours_us and floor_us else None,
        ratio_to_textbook=ours_us / textbook_us if ours_us and textbook_us else None,
        sent_per_second_per_call=of("ours", lambda m: m.load.received_per_second_per_call),
        off_2ms_fraction=of("ours", lambda m: m.load.off_2ms_fraction),
        floor_off_2ms_fraction=of("floor", lambda m: m.load.off_2ms_fraction),
        loss_fraction=of("ours", lambda m: m.load.loss_fraction),
        rss_kb_per_call=of("ours", lambda m: m.rss_kb_per_call),
        fell_behind=any(each.load.fell_behind for each in measured.values()),
        contenders=dict(measured),
    )


ROWS: Final[tuple[tuple[str, Callable[[Measured], str]], ...]] = (
    ("calls", lambda m: f"{m.calls}"),
    ("CPU per frame pair, us", lambda m: f"{m.us_per_frame_pair:.1f}"),
    ("calls per core", lambda m: f"{m.calls_per_core:.0f}"),
    ("sent per second and call", lambda m: f"{m.load.received_per_second_per_call:.2f}"),
    ("gaps off 20 ms by > 2 ms", lambda m: f"{m.load.off_2ms_fraction:.3%}"),
    ("gap p50, ms", lambda m: f"{m.load.gap_p50_ms:.2f}"),
    ("gap p99, ms", lambda m: f"{m.load.gap_p99_ms:.2f}"),
    ("gap p99.9, ms", lambda m: f"{m.load.gap_p999_ms:.2f}"),
    ("gap max, ms", lambda m: f"{m.load.gap_max_ms:.2f}"),
    ("frames that never came back", lambda m: f"{m.load.loss_fraction:.4%}"),
    ("round trip p50, ms", lambda m: f"{m.load.round_trip_p50_ms:.1f}"),
    ("round trip p99, ms", lambda m: f"{m.load.round_trip_p99_ms:.1f}"),
    ("memory, MB", lambda m: f"{m.rss_kb / 1024:.1f}"),
    ("memory per call, KB", lambda m: _or_dash(m.rss_kb_per_call)),
    ("others on the same CPU", lambda m: f"{m.foreign_fraction:.1%}"),
    ("load generator late p99, ms", lambda m: f"{m.load.late_p99_ms:.2f}"),
    ("load generator late max, ms", lambda m: f"{m.load.late_max_ms:.2f}"),
)


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def table(comparison: Comparison) -> list[str]:
    """For people, with what one must know to judge the figures."""
    columns = [(NAMES[name], each) for name, each in comparison.contenders.items()]
    kind = "TLS" if comparison.tls else "plain WebSockets"
    lines = [f"{comparison.calls} calls for {comparison.seconds:g} s, {kind}"]
    lines.append(" " * 30 + "".join(f"{title:>12}" for title, _ in columns))
    for label, show in ROWS:
        lines.append(f"{label:<30}" + "".join(f"{show(each):>12}" for _, each in columns))
    for other, ratio in (
        ("the floor", comparison.ratio_to_floor),
        ("the textbook version", comparison.ratio_to_textbook),
    ):
        if ratio is not None:
            lines.append(f"ours takes {ratio:.2f} times the CPU of {other}")
    return lines + _remarks(comparison)


def _remarks(comparison: Comparison) -> list[str]:
    remarks = []
    textbook = comparison.contenders.get("textbook")
    if textbook is not None:
        remarks.append(
            f"The textbook version was measured with {textbook.calls} calls: it drifts, "
            f"to {textbook.load.received_per_second_per_call:.2f} packets per second instead of 50."
        )
    for name, each in comparison.contenders.items():
        if each.load.fell_behind:
            remarks.append(
                f"NOT VALID: for {NAMES[name]}, {each.load.late_2ms_fraction:.2%} of what the load "
                "generator sent was more than 2 ms late (allowed is 0.1 %)."
            )
        if each.foreign_fraction > FOREIGN_MOST:
            remarks.append(
                f"DOUBTFUL: others used {each.foreign_fraction:.1%} of the CPU that "
                f"{NAMES[name]} was measured on."
            )
    return remarks
