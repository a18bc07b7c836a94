"""A picture of a call: what the caller said and what it heard, on one time axis.

matplotlib without pyplot: no display is needed, and no state is shared between pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from msgspec import Struct
from numpy.typing import NDArray

from loadtest.audio import FRAME_BYTES, RATE_HZ, Pcm, decode
from loadtest.phone_plan import CallRecord
from loadtest.recording import PCMU, continuity, first_sound_ns, gaps, timeline

FULL_SCALE = 32768
COLUMNS = 1600  # about one for each pixel of the picture's width
WIDTH_INCHES, HEIGHT_INCHES, DPI = 12.0, 5.4, 150
INK, FAINT = "#1f2933", "#9aa5b1"
SAID_COLOR, HEARD_COLOR = "#2a6f97", "#c8553d"


class Track(Struct, frozen=True):
    """Linear sound at 8 kHz, and when it begins: seconds after the answer."""

    pcm: Pcm
    start_seconds: float = 0.0

    @property
    def end_seconds(self) -> float:
        return self.start_seconds + len(self.pcm) / RATE_HZ


def draw_call(path: Path, record: CallRecord, title: str = "Phone call") -> None:
    """Write the picture of a finished call. ValueError unless it was answered."""
    if record.answered_at is None:
        raise ValueError(f"call {record.call_id} was not answered ({record.outcome}): no picture")
    voice_ns = (packet.at_ns for packet in record.packets if packet.payload_type == PCMU)
    tracks = (
        (decode(record.sent_audio), record.first_sent_ns),
        (timeline(record.packets), next(voice_ns, None)),
    )
    sent, heard = (
        Track(pcm, 0.0 if start_ns is None else start_ns / 1e9 - record.answered_at)
        for pcm, start_ns in tracks
    )
    draw_tracks(path, sent, heard, title, figures_of(record))


def draw_tracks(
    path: Path, sent: Track, heard: Track, title: str = "Phone call", figures: Sequence[str] = ()
) -> None:
    """Write a PNG with both waveforms; `figures` stand under the title, as in "lost 0"."""
    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), dpi=DPI, facecolor="white")
    upper, lower = figure.subplots(2, 1, sharex=True, sharey=True)
    # One scale for both, so that a quiet side looks quiet; -34 dB keeps noise from filling it.
    loudest = max(0.02, *(_peak(track.pcm) for track in (sent, heard)))
    _draw_track(upper, sent, "caller says", SAID_COLOR)
    _draw_track(lower, heard, "caller hears", HEARD_COLOR)
    upper.set_ylim(-1.1 * loudest, 1.1 * loudest)
    start = min(0.0, sent.start_seconds, heard.start_seconds)
    upper.set_xlim(start, max(1.0, sent.end_seconds, heard.end_seconds))
    upper.tick_params(axis="x", length=0)
    lower.set_xlabel("seconds from the answer", color=INK)
    figure.text(0.065, 0.945, title, fontsize=15, fontweight="bold", color=INK)
    figure.text(0.065, 0.895, "   ·   ".join(figures), fontsize=9.5, color=INK)
    figure.subplots_adjust(left=0.065, right=0.985, top=0.86, bottom=0.11, hspace=0.08)
    figure.savefig(path, format="png")


def figures_of(record: CallRecord) -> list[str]:
    """What is worth knowing about an answered call, in short phrases."""
    whole = continuity(record.packets)
    figures = [f"packets sent {record.sent_packets:,}, heard {whole.received:,}"]
    figures.append(f"lost {whole.lost}, duplicate {whole.duplicates}, reordered {whole.reordered}")
    cadence = gaps(record.packets)
    if cadence is not None:
        figures.append(
            f"gap p50 {cadence.p50_ms:.1f}, p99 {cadence.p99_ms:.1f}, max {cadence.max_ms:.1f} ms"
        )
    sound_ns = first_sound_ns(record.packets)
    if sound_ns is not None and record.answered_at is not None:
        figures.append(
            f"first sound {sound_ns / 1e6 - record.answered_at * 1e3:.0f} ms after the answer"
        )
    return figures


def _peak(pcm: Pcm) -> float:
    return float(np.abs(pcm.astype(np.int32)).max(initial=0)) / FULL_SCALE


def _draw_track(axes: Axes, track: Track, label: str, color: str) -> None:
    times, low, high, strength = _envelope(track)
    axes.axhline(0, color=FAINT, linewidth=0.6, zorder=1)
    axes.fill_between(times, low, high, color=color, alpha=0.35, linewidth=0.3, zorder=2)
    axes.fill_between(times, -strength, strength, color=color, linewidth=0.3, zorder=3)
    axes.axvline(0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=4)
    axes.grid(axis="x", color=FAINT, alpha=0.35, linewidth=0.6)
    axes.set_ylabel(label, color=color, fontsize=11, fontweight="bold")
    axes.set_yticks([])
    axes.tick_params(colors=INK)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)


Samples = NDArray[np.float64]


def _envelope(track: Track) -> tuple[Samples, Samples, Samples, Samples]:
    """Times, and from each on the lowest and highest sample, and the RMS over about 20 ms."""
    width = max(1, -(-len(track.pcm) // COLUMNS))
    padded = np.pad(track.pcm, (0, -len(track.pcm) % width)) / FULL_SCALE
    stretches = padded.reshape(-1, width)
    times = track.start_seconds + np.arange(len(stretches)) * width / RATE_HZ
    if not len(stretches):
        return times, times, times, times
    power = np.mean(stretches**2, axis=1)
    smoothing = max(1, FRAME_BYTES // width)
    power = np.convolve(power, np.full(smoothing, 1 / smoothing), mode="same")[: len(times)]
    return times, stretches.min(axis=1), stretches.max(axis=1), np.sqrt(power)
