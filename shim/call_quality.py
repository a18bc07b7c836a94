"""How good a call is for those who talk, from what a worker sees of it anyway. Pure.

The estimate is the E-model of ITU-T G.107 (06/2015) with its default values, for G.711 as G.113
appendix I has it without concealment of lost packets. It is about the caller's voice, as it arrives
here. What can't be seen from here is not in it: the caller's own network beyond Asterisk, echo,
noise, and the time that the voice server takes.
"""

from math import log2
from typing import Final

from shim.control import CallQuality, CallStats
from shim.pcmu import PTIME_MS

R_DEFAULT: Final = 93.2
"""G.107 section 7.7: the rating with all parameters at their defaults, before loss and delay."""
LOSS_ROBUSTNESS: Final = 4.3
"""G.113 appendix I, Bpl of G.711 without packet loss concealment; its Ie is 0."""
BUFFER_JITTERS: Final = 2
"""A listener's buffer has to hold about so many times the mean jitter."""


def delay_impairment(delay_ms: float) -> float:
    """Idd: what a one-way delay takes off the rating (G.107 equations 7-27 and 7-28)."""
    if delay_ms <= 100:
        return 0.0
    x = log2(delay_ms / 100)
    return float(25.0 * ((1 + x**6) ** (1 / 6) - 3 * (1 + (x / 3) ** 6) ** (1 / 6) + 2))


def rating(loss_share: float, delay_ms: float) -> float:
    """R, 0 to 93.2, from random loss (0 to 1) and one-way delay (G.107 equations 7-1, 7-29)."""
    loss_percent = 100 * loss_share
    loss_impairment = 95 * loss_percent / (loss_percent + LOSS_ROBUSTNESS)
    return max(0.0, R_DEFAULT - delay_impairment(delay_ms) - loss_impairment)


def mean_opinion(r: float) -> float:
    """The mean opinion score, 1 to 4.5, that belongs to a rating (G.107 annex B)."""
    if r <= 0:
        return 1.0
    if r >= 100:
        return 4.5
    return max(1.0, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)


class QualityWatch:
    """What a session notes of one call beside its counters. Times are monotonic nanoseconds.

    Args:
        epoch_ns: the call's begin, from which the time to its first audio counts.
        so_far: what another worker has noted before.
    """

    __slots__ = (
        "_cleared_ns",
        "_epoch_ns",
        "_jitter_sum_ms",
        "_longest_gap_ms",
        "_new_barge_ins_ms",
        "_samples",
        "barge_ins",
        "first_audio_ms",
        "slowest_barge_in_ms",
    )

    def __init__(self, epoch_ns: int, so_far: CallQuality) -> None:
        self._epoch_ns = epoch_ns
        self._cleared_ns = 0
        self._jitter_sum_ms = so_far.jitter_ms * so_far.judged_s
        self._longest_gap_ms = so_far.longest_gap_ms
        self._samples = so_far.judged_s
        self.first_audio_ms: float | None = so_far.first_audio_ms
        self.barge_ins = so_far.barge_ins
        self._new_barge_ins_ms: list[float] = []
        self.slowest_barge_in_ms = so_far.slowest_barge_in_ms

    @property
    def waiting(self) -> bool:
        """Whether a tick has something to tell: the first audio, or the silence after `clear`."""
        return self.first_audio_ms is None or self._cleared_ns > 0

    def cleared(self, now_ns: int) -> None:
        """The voice server took back audio that was to be played: the caller has interrupted."""
        self._cleared_ns = self._cleared_ns or now_ns

    def sent(self, now_ns: int, *, audio: bool) -> None:
        """A frame was sent; `audio`: any of the voice server's has been, up to now.

        After a `clear` it is the first frame without what was taken back.
        """
        if audio and self.first_audio_ms is None:
            self.first_audio_ms = (now_ns - self._epoch_ns) / 1e6
        if self._cleared_ns:
            took_ms = (now_ns - self._cleared_ns) / 1e6
            self._cleared_ns = 0
            self.barge_ins += 1
            self._new_barge_ins_ms.append(took_ms)
            self.slowest_barge_in_ms = max(self.slowest_barge_in_ms, took_ms)

    def take_barge_ins(self) -> list[float]:
        """The times, in ms, of the barge-ins since this was asked last."""
        taken, self._new_barge_ins_ms = self._new_barge_ins_ms, []
        return taken

    def sample(self, jitter_ns: int) -> None:
        """Take in the jitter of the moment, once a second."""
        self._samples += 1
        self._jitter_sum_ms += jitter_ns / 1e6

    def sum_up(self, stats: CallStats, jitter_ns: int, longest_gap_ns: int) -> CallQuality:
        """The call so far; the gap is this worker's, the counters are all workers'."""
        samples = self._samples
        jitter_ms = self._jitter_sum_ms / samples if samples else jitter_ns / 1e6
        useless = stats.lost + stats.late
        expected = stats.frames_in + stats.lost
        loss_share = useless / expected if expected else 0.0
        r = rating(min(1.0, loss_share), PTIME_MS + BUFFER_JITTERS * jitter_ms)
        return CallQuality(
            mos=round(mean_opinion(r), 2),
            jitter_ms=round(jitter_ms, 1),
            longest_gap_ms=max(self._longest_gap_ms, longest_gap_ns // 1_000_000),
            first_audio_ms=None if self.first_audio_ms is None else round(self.first_audio_ms),
            barge_ins=self.barge_ins,
            slowest_barge_in_ms=round(self.slowest_barge_in_ms, 1),
            judged_s=samples,
        )
