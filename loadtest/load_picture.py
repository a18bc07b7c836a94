"""A picture of a load test: each figure of each call, over the time at which the call began.

    python -m loadtest.load_picture out/load_calls.jsonl out/load.png

locust draws calls per second and times of set-up; this draws what callers heard, too.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtest.load_figures import CallReport

INK, FAINT, DOT, BAD = "#1f2933", "#9aa5b1", "#2a6f97", "#c8553d"
COLUMNS: Final = 3

Values = Callable[[CallReport], Sequence[float]]


def _one(value: float | None) -> Sequence[float]:
    return () if value is None else (value,)


PANELS: Final[dict[str, Values]] = {
    "INVITE to answer, ms": lambda call: _one(call.set_up_ms),
    "answer to first audio, ms": lambda call: _one(call.first_audio_ms),
    "audio's round trip, ms": lambda call: call.round_trips_ms,
    "barge-in to silence, ms": lambda call: call.barge_ins_ms,
    "longest gap, ms (due: 20)": lambda call: _one(call.longest_gap_ms),
    "jitter, µs": lambda call: _one(call.jitter_us),
    "packets lost, ‰": lambda call: _one(call.loss_permille),
    "the phone's own latest packet, ms": lambda call: _one(call.send_late_max_ms),
}


def read_calls(path: Path) -> list[CallReport]:
    """The calls that a load test wrote. msgspec.DecodeError, or OSError."""
    return msgspec.json.Decoder(CallReport).decode_lines(path.read_bytes())


def draw(calls: Sequence[CallReport], path: Path) -> None:
    """Write the picture; the file's ending says what kind it is."""
    rows = -(-(len(PANELS) + 1) // COLUMNS)
    figure = Figure(figsize=(13, 3 * rows), dpi=120, facecolor="white", layout="constrained")
    calls_up, *others = figure.subplots(rows, COLUMNS, sharex=True).flat
    began_s = min((call.invited_at_s for call in calls), default=0.0)
    _draw_calls_up(calls_up, calls, began_s)
    for axes, (title, values) in zip(others, PANELS.items(), strict=True):
        _draw_panel(axes, title, calls, values, began_s)
    for axes in (calls_up, *others):
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.tick_params(colors=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=FAINT, alpha=0.3)
    for axes in others[-COLUMNS:]:
        axes.set_xlabel("seconds since the first call", color=INK)
    figure.savefig(path)


def _draw_calls_up(axes: Axes, calls: Sequence[CallReport], began_s: float) -> None:
    """How many calls there were at a time, and where calls failed."""
    steps = [(call.invited_at_s - began_s, 1) for call in calls]
    steps += [(at_s + call.seconds, -1) for (at_s, _), call in zip(steps, calls, strict=True)]
    steps.sort()
    times = [at_s for at_s, _ in steps]
    axes.step(times, np.cumsum([step for _, step in steps]), where="post", color=DOT)
    failed = [call.invited_at_s - began_s for call in calls if call.failure]
    if failed:  # an empty, unclipped line would break the layout
        axes.plot(failed, [0] * len(failed), "x", color=BAD, clip_on=False)
    title = f"calls up ({len(calls)} in all, {len(failed)} failed)"
    axes.set_title(title, loc="left", color=INK)


def _draw_panel(
    axes: Axes, title: str, calls: Sequence[CallReport], values: Values, began_s: float
) -> None:
    points = [(call.invited_at_s - began_s, value) for call in calls for value in values(call)]
    if not points:
        axes.set_title(f"{title}: none", loc="left", color=INK)
        return
    times, figures = zip(*points, strict=True)
    axes.plot(times, figures, ".", color=DOT, alpha=0.4, markersize=4)
    p50, p99 = np.percentile(figures, [50, 99])
    for value, style in ((p50, "-"), (p99, "--")):
        axes.axhline(value, color=BAD, linestyle=style, linewidth=1)
    axes.set_title(f"{title}\np50 {p50:.1f}, p99 {p99:.1f}", loc="left", color=INK)


def main() -> int:
    """Draw the file that is the first argument into the second."""
    if len(sys.argv) != 3:
        sys.stderr.write("usage: python -m loadtest.load_picture CALLS.jsonl PICTURE.png\n")
        return 2
    draw(read_calls(Path(sys.argv[1])), Path(sys.argv[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
