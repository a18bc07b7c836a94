"""Run the benchmark with ever more calls, and draw what came of it.

    python -m loadtest.bench_plot [--counts 1,10,50,100,200,300,600] [--seconds 10] [--rounds 1]
                                  [--tls] [--to docs/performance.svg] [--json FILE] [--from FILE]

Draws, over the number of calls, what a call costs each contender in CPU time, and how many of the
packets that it sends come more than 2 ms off their 20 ms. Points at which the load generator fell
behind are hollow: they count for nothing. With --json the figures are kept, and --from draws such
a file anew without measuring. The file's ending says what is drawn: .svg, .png or .pdf.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtest.bench import MAX_CALLS, bench, leave_to_workers, run_to_end
from loadtest.bench_contenders import TEXTBOOK_MOST
from loadtest.bench_figures import NAMES, Comparison, Measured, Run, table
from loadtest.bench_programs import BenchError
from loadtest.command_line import write_json

COUNTS: Final = "1,10,50,100,200,300,600"
INK, FAINT = "#1f2933", "#9aa5b1"
COLORS: Final = {"ours": "#2a6f97", "floor": "#5c6b73", "textbook": "#c8553d"}
MARKERS: Final = {"ours": "o", "floor": "s", "textbook": "^"}
FRAME_PAIRS_PER_S: Final = 50
COST_STEPS: Final = (0.05, 0.1, 0.2, 0.5, 1, 2, 5)
JITTER_STEPS: Final = (0, 0.01, 0.1, 1, 10, 100)
ENDINGS: Final = (".svg", ".png", ".pdf")


async def measure(runs: Sequence[Run], cpus: Sequence[int]) -> list[Comparison]:
    """Run the benchmark for each; prints each table. Raises BenchError."""
    comparisons = []
    for run in runs:
        comparisons.append(await bench(run, cpus))
        print("\n".join(table(comparisons[-1])), end="\n\n", flush=True)
    return comparisons


def draw(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Write the picture."""
    figure = Figure(figsize=(10, 4.6), dpi=150, facecolor="white", layout="constrained")
    cost, jitter = figure.subplots(1, 2)
    _draw(cost, comparisons, lambda measured: measured.us_per_frame_pair * FRAME_PAIRS_PER_S / 1e4)
    cost.set_title("CPU per call, % of a core", loc="left", color=INK)
    cost.set_yscale("log")
    cost.set_yticks(COST_STEPS, [f"{step:g}" for step in COST_STEPS])
    cost.minorticks_off()
    _draw(jitter, comparisons, lambda measured: measured.load.off_2ms_fraction * 100)
    jitter.set_title("Packets more than 2 ms off their 20 ms, %", loc="left", color=INK)
    jitter.set_yscale("symlog", linthresh=JITTER_STEPS[1])
    jitter.set_yticks(JITTER_STEPS, [f"{step:g}" for step in JITTER_STEPS])
    jitter.set_ylim(-JITTER_STEPS[1] / 5, 1.5 * JITTER_STEPS[-1])
    cost.legend(frameon=False, labelcolor=INK)
    # Without a date and with fixed ids, the same figures give the same file.
    with rc_context({"svg.hashsalt": "open-telephony-stack"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw(
    axes: Axes, comparisons: Sequence[Comparison], figure: Callable[[Measured], float]
) -> None:
    for name, title in NAMES.items():
        points = [each.contenders[name] for each in comparisons if name in each.contenders]
        doubtful = [point for point in points if point.load.fell_behind]
        color, marker = COLORS[name], MARKERS[name]
        x, y = [point.calls for point in points], [figure(point) for point in points]
        axes.plot(x, y, color=color, marker=marker, label=title)
        x, y = [point.calls for point in doubtful], [figure(point) for point in doubtful]
        axes.plot(x, y, color=color, marker=marker, markerfacecolor="white", linestyle="none")
    axes.set_xscale("log")
    counts = [each.calls for each in comparisons]
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set_xlabel("calls", color=INK)
    axes.tick_params(colors=INK)
    axes.grid(axis="y", color=FAINT, linewidth=0.4)
    axes.spines[["top", "right"]].set_visible(False)


def runs_of(options: argparse.Namespace, counts: Sequence[int]) -> list[Run]:
    """A run per number of calls. The textbook version takes no part where it can't keep up."""
    return [
        Run(
            calls=count,
            seconds=options.seconds,
            tls=options.tls,
            rounds=options.rounds,
            only=tuple(name for name in NAMES if name != "textbook" or count <= TEXTBOOK_MOST),
        )
        for count in counts
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.bench_plot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--counts", default=COUNTS, help="calls (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each contender")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--tls", action="store_true", help="wss:// (without the floor)")
    parser.add_argument("--to", type=Path, default=Path("docs/performance.svg"), metavar="FILE")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="draw these")
    options = parser.parse_args(arguments)
    if options.to.suffix not in ENDINGS:
        parser.error(f"--to is {str(options.to)!r}, allowed is a name with {', '.join(ENDINGS)}")
    try:
        counts = sorted({int(count) for count in options.counts.split(",")})
    except ValueError:
        counts = []
    if not counts or not 1 <= counts[0] <= counts[-1] <= MAX_CALLS:
        parser.error(f"--counts is {options.counts!r}, allowed are numbers of 1 to {MAX_CALLS}")
    try:
        if options.source is not None:
            comparisons = msgspec.json.decode(options.source.read_bytes(), type=list[Comparison])
        else:
            runs = runs_of(options, counts)
            comparisons = run_to_end(measure(runs, leave_to_workers(1)))
    except (BenchError, OSError, msgspec.DecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.json is not None:
        write_json(options.json, comparisons)
    draw(options.to, comparisons)
    print(f"wrote {os.fspath(options.to)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
