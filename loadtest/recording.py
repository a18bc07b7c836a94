"""What a caller heard, measured from the RTP packets that arrived. Pure: packets in, numbers out.

Times are nanoseconds of CLOCK_MONOTONIC, as the packets carry them. Only PCMU packets count as
sound; every packet counts for continuity and gaps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from loadtest.audio import RATE_HZ, Pcm, decode

PCMU = 0  # RFC 3551 table 4
PTIME_MS = 20.0
NS_PER_MS = 1_000_000
# A timestamp this far from where its arrival says is no jitter: the sender began to count anew.
REANCHOR_MS = 1000.0
# -50 dB of full scale: above µ-law's idle noise, below anything a person would call sound.
SILENCE_RMS = 100.0

# Tones are told apart in windows of 200 ms: 5 Hz between the bins of the spectrum, and a Hann
# window keeps a steady tone's power within 2 bins of its own.
WINDOW_FRAMES = 10
HOP_FRAMES = 5
FRAME_SAMPLES = 160
WINDOW_SAMPLES = WINDOW_FRAMES * FRAME_SAMPLES
BIN_HZ = RATE_HZ / WINDOW_SAMPLES
LOBE_BINS = 2


class ReceivedPacket(Struct, frozen=True, gc=False):
    """One RTP packet (RFC 3550 section 5.1) and when the kernel received it."""

    at_ns: int
    sequence: int
    timestamp: int
    ssrc: int
    payload_type: int
    payload: bytes


class Continuity(Struct, frozen=True):
    """Numbers of packets. `lost` never arrived; `reordered` arrived after a later one."""

    received: int = 0
    lost: int = 0
    duplicates: int = 0
    reordered: int = 0
    ssrc_changes: int = 0


class Gaps(Struct, frozen=True):
    """Time between arrivals. `off_share`: the part of them more than 2 ms from 20 ms (0 to 1)."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    off_share: float
    packets_per_second: float


def continuity(packets: Sequence[ReceivedPacket]) -> Continuity:
    """Check sequence numbers, in order of arrival; each change of SSRC starts anew."""
    runs = _runs(packets)
    counts = [_continuity_of_run([packet.sequence for packet in run]) for run in runs]
    return Continuity(
        received=len(packets),
        lost=sum(lost for lost, _, _ in counts),
        duplicates=sum(duplicates for _, duplicates, _ in counts),
        reordered=sum(reordered for _, _, reordered in counts),
        ssrc_changes=max(0, len(runs) - 1),
    )


def _runs(packets: Iterable[ReceivedPacket]) -> list[list[ReceivedPacket]]:
    runs: list[list[ReceivedPacket]] = []
    for packet in packets:
        if not runs or runs[-1][-1].ssrc != packet.ssrc:
            runs.append([])
        runs[-1].append(packet)
    return runs


def _continuity_of_run(sequences: list[int]) -> tuple[int, int, int]:
    """Lost, duplicates, reordered of one SSRC; sequence numbers wrap at 2**16."""
    first = highest = sequences[0]
    seen = {first}
    duplicates = reordered = 0
    for sequence in sequences[1:]:
        extended = highest + _signed(sequence - highest, 16)
        if extended in seen:
            duplicates += 1
        elif extended < highest:
            reordered += 1
        seen.add(extended)
        highest = max(highest, extended)
        first = min(first, extended)
    return highest - first + 1 - len(seen), duplicates, reordered


def _signed(difference: int, bits: int) -> int:
    """The difference of two wrapping counters, from -2**(bits-1) on."""
    half = 1 << (bits - 1)
    return (difference + half) % (1 << bits) - half


def gaps(packets: Sequence[ReceivedPacket]) -> Gaps | None:
    """The cadence at the caller's ear; None for fewer than two packets."""
    if len(packets) < 2:
        return None
    arrivals_ns = np.array([packet.at_ns for packet in packets], dtype=np.int64)
    gaps_ms = np.diff(arrivals_ns) / NS_PER_MS
    span_seconds = max(1, arrivals_ns[-1] - arrivals_ns[0]) / 1e9
    return Gaps(
        p50_ms=float(np.percentile(gaps_ms, 50)),
        p99_ms=float(np.percentile(gaps_ms, 99)),
        max_ms=float(gaps_ms.max()),
        off_share=float(np.mean(np.abs(gaps_ms - PTIME_MS) > 2.0)),
        packets_per_second=float(len(gaps_ms) / span_seconds),
    )


def timeline(packets: Sequence[ReceivedPacket]) -> Pcm:
    """The sound as linear samples, placed by RTP timestamp from the first packet on.

    Missing packets are silence, late ones stand where they belong. Where the SSRC changes or the
    timestamps jump by more than a second against the clock, placing starts anew from the arrival.
    """
    voice = [packet for packet in packets if packet.payload_type == PCMU]
    positions = _positions(voice)
    start = min(positions, default=0)
    ends = (position + len(p.payload) for position, p in zip(positions, voice, strict=True))
    pcm = np.zeros(max(ends, default=0) - start, dtype=np.int16)
    for position, packet in zip(positions, voice, strict=True):
        samples = decode(packet.payload)
        pcm[position - start : position - start + len(samples)] = samples
    return pcm


def _positions(voice: Sequence[ReceivedPacket]) -> list[int]:
    """Each packet's sample number, counted from the first packet."""
    positions: list[int] = []
    anchor: ReceivedPacket | None = None
    anchor_position = 0
    for packet in voice:
        anchor = anchor or packet
        by_clock = round((packet.at_ns - voice[0].at_ns) * RATE_HZ / 1e9)
        position = anchor_position + _signed(packet.timestamp - anchor.timestamp, 32)
        off_ms = abs(position - by_clock) * 1000 / RATE_HZ
        if packet.ssrc != anchor.ssrc or off_ms > REANCHOR_MS:
            anchor, anchor_position, position = packet, by_clock, by_clock
        positions.append(position)
    return positions


def first_sound_ns(
    packets: Iterable[ReceivedPacket], after_ns: int = 0, silence_rms: float = SILENCE_RMS
) -> int | None:
    """When the first packet with sound in it arrived at or after `after_ns`, or None."""
    return next(
        (
            packet.at_ns
            for packet in packets
            if packet.at_ns >= after_ns
            and packet.payload_type == PCMU
            and _rms(decode(packet.payload)) > silence_rms
        ),
        None,
    )


def _rms(pcm: Pcm) -> float:
    return float(np.sqrt(np.mean(pcm.astype(np.float64) ** 2))) if len(pcm) else 0.0


def voiced_spectra(pcm: Pcm, silence_rms: float = SILENCE_RMS) -> NDArray[np.float64]:
    """Power spectra of all 200 ms windows that hold sound throughout, one row per window.

    Column k is the share of the window's power at k * BIN_HZ; a row's sum is 1. Shorter sounds, and
    windows with a hole of 20 ms or more, give no row.
    """
    frames = pcm[: len(pcm) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    voiced = np.sqrt(np.mean(frames.astype(np.float64) ** 2, axis=1)) > silence_rms
    starts = [
        start
        for start in range(0, len(frames) - WINDOW_FRAMES + 1, HOP_FRAMES)
        if voiced[start : start + WINDOW_FRAMES].all()
    ]
    windows = np.array([frames[start : start + WINDOW_FRAMES].ravel() for start in starts])
    windows = windows.reshape(-1, WINDOW_SAMPLES) * np.hanning(WINDOW_SAMPLES)
    power = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    shares: NDArray[np.float64] = power / power.sum(axis=1, keepdims=True)
    return shares


def dominant_hz(pcm: Pcm) -> float | None:
    """The frequency with the most power in the voiced stretches; None when there are none."""
    spectra = voiced_spectra(pcm)
    if not len(spectra):
        return None
    mean = spectra.mean(axis=0)
    return _centre_hz(mean, int(mean.argmax()))


def power_share(pcm: Pcm, frequency_hz: float, tolerance_hz: float = 15.0) -> float:
    """The part (0 to 1) of the voiced stretches' power that lies around a frequency."""
    spectra = voiced_spectra(pcm)
    frequencies = np.arange(spectra.shape[1]) * BIN_HZ
    near = np.abs(frequencies - frequency_hz) <= tolerance_hz
    return float(spectra[:, near].sum(axis=1).mean()) if len(spectra) else 0.0


def tones_hz(pcm: Pcm, min_share: float = 0.05) -> list[float]:
    """Every tone that holds `min_share` of the power in at least one voiced window, ascending.

    So a foreign tone shows even if it sounds for 200 ms of a whole call. Tones nearer than 25 Hz to
    each other count as one.
    """
    peaks: list[float] = []
    for spectrum in voiced_spectra(pcm):
        band = np.convolve(spectrum, np.ones(2 * LOBE_BINS + 1), mode="same")
        for candidate in np.flatnonzero(band >= min_share):
            around = band[max(0, candidate - LOBE_BINS) : candidate + LOBE_BINS + 1]
            if band[candidate] == around.max():
                peaks.append(_centre_hz(spectrum, int(candidate)))
    groups: list[list[float]] = []
    for peak in sorted(peaks):
        if not groups or peak - groups[-1][0] >= 5 * BIN_HZ:
            groups.append([])
        groups[-1].append(peak)
    return [float(np.mean(group)) for group in groups]


def hears_only(pcm: Pcm, frequency_hz: float, tolerance_hz: float = 15.0) -> bool:
    """Whether this tone is heard and no other: no cross-talk between calls."""
    heard = tones_hz(pcm)
    return bool(heard) and all(abs(tone - frequency_hz) <= tolerance_hz for tone in heard)


def _centre_hz(spectrum: NDArray[np.float64], peak_bin: int) -> float:
    """The centre of the power around a peak: finer than the spectrum's bins."""
    bins = np.arange(max(0, peak_bin - LOBE_BINS), min(len(spectrum), peak_bin + LOBE_BINS + 1))
    return float(np.average(bins, weights=spectrum[bins]) * BIN_HZ)
