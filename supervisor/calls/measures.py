"""What is counted and timed of all calls since the supervisor's start. Pure."""

from collections import Counter, defaultdict
from typing import Final

from msgspec import Struct, field

from shim.control import CallFigures
from shim.histogram import CONNECT_BOUNDS_MS, Histogram
from supervisor.calls.state import Call

SETUP_BOUNDS_MS: Final = (2, 5, 10, 20, 35, 50, 75, 100, 150, 250, 500, 1000, 2500, 5000, 10_000)
DURATION_BOUNDS_MS: Final = (1e3, 5e3, 15e3, 30e3, 60e3, 120e3, 300e3, 600e3, 1800e3, 3600e3)
JITTER_BOUNDS_MS: Final = (1, 2, 5, 10, 15, 20, 30, 40, 60, 100, 200)
GAP_BOUNDS_MS: Final = (20, 40, 60, 100, 150, 200, 300, 500, 1000, 2000, 5000, 10_000)
FIRST_AUDIO_BOUNDS_MS: Final = (50, 100, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000, 10_000)
MOS_BOUNDS: Final = (1.5, 2.0, 2.5, 3.0, 3.3, 3.6, 3.8, 4.0, 4.2, 4.3, 4.5)
POOR_MOS: Final = 3.6
"""Below it many listeners are dissatisfied (ITU-T G.107 annex B, table B.1: R below 70)."""
JUDGED_AFTER_FRAMES: Final = 250
"""The quality of a call's first 5 s says little."""
STEPS: Final = ("bridge", "media", "join_caller", "join_media")

OUTCOMES: Final = {
    "caller hung up": "caller_hung_up",
    "closed with": "stream_ended",
    "voice server unreachable": "stream_failed",
    "internal error": "stream_failed",
    "setup_timeout": "setup_failed",
    "media leg lost": "media_lost",
    "worker gave up": "worker_failed",
    "shutdown": "shutdown",
    "refused": "refused",
}
"""By how the reason of a call's end begins."""
OUTCOME_NAMES: Final = tuple(dict.fromkeys([*OUTCOMES.values(), "abandoned", "other"]))


def can_be_judged(call: CallFigures) -> bool:
    """Whether there is enough of a call to say how it is."""
    return call.stats.frames_in >= JUDGED_AFTER_FRAMES


def is_poor(call: CallFigures) -> bool:
    """Whether a call has been hard to understand so far."""
    return can_be_judged(call) and call.quality.mos < POOR_MOS


def outcome(call: Call) -> str:
    """How a call ended, in one of `OUTCOME_NAMES`; abandoned: hung up during the set-up."""
    found = [name for begin, name in OUTCOMES.items() if call.reason.startswith(begin)]
    name = found[0] if found else "other"
    if call.up_ns:
        return name
    if name == "caller_hung_up":
        return "abandoned"
    return "setup_failed" if " failed: " in call.reason else name


def _times(bounds: tuple[float, ...]) -> Histogram:
    return field(default_factory=lambda: Histogram.of(bounds))


class CallMeasures(Struct):
    """Of calls from end to end. Times in ms; `ended` counts by (worker, outcome)."""

    ended: Counter[tuple[int, str]] = field(default_factory=Counter)
    steps: dict[str, Histogram] = field(
        default_factory=lambda: {step: Histogram.of(SETUP_BOUNDS_MS) for step in STEPS}
    )
    setup: Histogram = _times(SETUP_BOUNDS_MS)
    duration: Histogram = _times(DURATION_BOUNDS_MS)
    mos: Histogram = _times(MOS_BOUNDS)
    jitter: Histogram = _times(JITTER_BOUNDS_MS)
    longest_gap: Histogram = _times(GAP_BOUNDS_MS)
    first_audio: Histogram = _times(FIRST_AUDIO_BOUNDS_MS)

    def step_done(self, step: str, took_ns: int) -> None:
        """A step of a set-up is done."""
        self.steps[step.replace(" ", "_")].add(took_ns / 1e6)

    def call_ended(self, call: Call, now_ns: int) -> None:
        """Nothing of the call is left."""
        self.ended[call.worker, outcome(call)] += 1
        if not call.up_ns:
            return
        self.duration.add((now_ns - call.started_ns) / 1e6)
        if not call.was_adopted:
            self.setup.add((call.up_ns - call.started_ns) / 1e6)
        quality = call.quality
        if quality is None:
            return
        if call.stats.frames_in:
            self.mos.add(quality.mos)
            self.jitter.add(quality.jitter_ms)
            self.longest_gap.add(quality.longest_gap_ms)
        if quality.first_audio_ms is not None:
            self.first_audio.add(quality.first_audio_ms)


class StreamMeasures(Struct):
    """Of calls and workers. `connect` is by worker; `setups` the same for a call's first stream."""

    refused: Counter[str] = field(default_factory=Counter)
    moved: Counter[str] = field(default_factory=Counter)
    connect: defaultdict[int, Histogram] = field(
        default_factory=lambda: defaultdict(lambda: Histogram.of(CONNECT_BOUNDS_MS))
    )
    setups: Histogram = _times(SETUP_BOUNDS_MS)
