"""The quality of a call: literal values of the E-model, and moments of a call."""

import pytest

from shim.call_quality import QualityWatch, delay_impairment, mean_opinion, rating
from shim.control import CallQuality, CallStats

MS = 1_000_000


@pytest.mark.parametrize(
    ("delay_ms", "impairment"), [(0, 0), (100, 0), (150, 0.16), (200, 3.04), (400, 24.07)]
)
def test_delay(delay_ms: float, impairment: float) -> None:
    """Up to 100 ms nobody notices; then it is worked out by hand from G.107's equation 7-27."""
    assert delay_impairment(delay_ms) == pytest.approx(impairment, abs=0.01)


@pytest.mark.parametrize(
    ("loss_share", "r"), [(0, 93.2), (0.01, 75.3), (0.02, 63.0), (0.05, 42.1), (0.2, 15.0)]
)
def test_loss(loss_share: float, r: float) -> None:
    """95 p / (p + 4.3) is taken off for p percent of random loss, G.711 without concealment."""
    assert rating(loss_share, 20) == pytest.approx(r, abs=0.06)


@pytest.mark.parametrize(
    ("r", "mos"),
    [(-5, 1), (0, 1), (50, 2.58), (60, 3.1), (70, 3.6), (80, 4.02), (93.2, 4.41), (100, 4.5)],
)
def test_opinion(r: float, mos: float) -> None:
    """The pairs of G.107's table B.1, and its ends."""
    assert mean_opinion(r) == pytest.approx(mos, abs=0.015)


def test_ratings_have_a_floor() -> None:
    """The worst there is: all is lost, and minutes late."""
    assert rating(1.0, 1e5) == 0.0


def test_time_to_first_audio() -> None:
    """From the call's begin to the first frame of audio; frames of silence before do not count."""
    watch = QualityWatch(1000 * MS, CallQuality())
    assert watch.waiting
    watch.sent(1020 * MS, audio=False)
    watch.sent(1240 * MS, audio=True)
    watch.sent(1260 * MS, audio=True)
    assert (watch.first_audio_ms, watch.waiting) == (240, False)


def test_barge_ins() -> None:
    """From the first `clear` to the next frame; what was asked for once is not told again."""
    watch = QualityWatch(0, CallQuality())
    watch.sent(20 * MS, audio=True)
    for cleared_ms, again_ms, sent_ms in ((100, 102, 117), (200, 201, 203)):
        watch.cleared(cleared_ms * MS)
        watch.cleared(again_ms * MS)
        watch.sent(sent_ms * MS, audio=True)
        watch.sent((sent_ms + 20) * MS, audio=True)
    assert (watch.take_barge_ins(), watch.take_barge_ins()) == ([17, 3], [])
    quality = watch.sum_up(CallStats(), 0, 0)
    assert (quality.barge_ins, quality.slowest_barge_in_ms) == (2, 17)


def test_summing_up() -> None:
    """Lost and late frames are useless to who listens; jitter is the mean of its samples."""
    watch = QualityWatch(0, CallQuality())
    for jitter_ms in (10, 30):
        watch.sample(jitter_ms * MS)
    stats = CallStats(frames_in=990, lost=10, late=10)
    assert watch.sum_up(stats, 50 * MS, 120 * MS) == CallQuality(
        mos=3.26, jitter_ms=20.0, longest_gap_ms=120, first_audio_ms=None, judged_s=2
    )


def test_another_worker_goes_on() -> None:
    """What one worker has noted is where the next one begins."""
    before = CallQuality(4.0, 10.0, 300, 240, barge_ins=2, slowest_barge_in_ms=40.0, judged_s=3)
    watch = QualityWatch(0, before)
    assert not watch.waiting
    watch.sample(50 * MS)
    watch.cleared(100 * MS)
    watch.sent(120 * MS, audio=True)
    assert watch.take_barge_ins() == [20]
    assert watch.sum_up(CallStats(frames_in=100), 0, 20 * MS) == CallQuality(
        mos=4.41,
        jitter_ms=20.0,
        longest_gap_ms=300,
        first_audio_ms=240,
        barge_ins=3,
        slowest_barge_in_ms=40.0,
        judged_s=4,
    )


def test_a_call_without_a_packet() -> None:
    """Nothing was lost of nothing."""
    assert QualityWatch(0, CallQuality()).sum_up(CallStats(), 0, 0).mos == 4.41
