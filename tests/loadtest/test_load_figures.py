"""The figures of a load test's calls, where all is known: the agent runs in the test."""

from collections import deque
from collections.abc import Callable, Iterable
from functools import cache
from typing import Final

import pytest
from msgspec.structs import replace

from loadtest import audio, recording
from loadtest.load_figures import CallReport, jitter_us, judge
from loadtest.load_plan import CallOrder, Sound
from loadtest.load_script import script
from loadtest.phone_plan import CallRecord
from loadtest.recording import ReceivedPacket
from tests.supervisor.stack import RunningStack
from voice_agent.agent import Action, CallMetadata, Clear, Mark, Play
from voice_agent.offline_agent import OfflineAgent

SECONDS = 16.0
PTIME_NS = 20_000_000
ANSWERED_NS = 5_000_000_000
DELAY_FRAMES = 3
SOUND = Sound(listen_s=2.0, speech_s=1.0, silence_s=2.5, barges_in=True, up_to_s=SECONDS)
ORDER = CallOrder(number=1, to="sip:a@b", seconds=SECONDS, sound=SOUND, patience_s=5.0)


class Line:
    """The offline agent behind a line that delays by `DELAY_FRAMES` in all, and plays frames."""

    def __init__(self) -> None:
        self.agent = OfflineAgent()
        self.heard: list[bytes] = []
        self._playing: deque[bytes | str] = deque()
        self._on_its_way = deque([audio.SILENT_FRAME] * DELAY_FRAMES)

    def run(self, said: bytes, frames: int) -> list[bytes]:
        """What the caller hears, frame by frame."""
        self._do(self.agent.on_start(CallMetadata("CA1", "MZ1", "AC1", {})))
        for number in range(frames):
            self._on_its_way.append(said[number * 160 : number * 160 + 160])
            self._do(self.agent.on_audio(self._on_its_way.popleft()))
            while self._playing and isinstance(mark := self._playing[0], str):
                self._playing.popleft()
                self._do(self.agent.on_mark(mark))
            frame = self._playing.popleft() if self._playing else audio.SILENT_FRAME
            assert isinstance(frame, bytes)
            self.heard.append(frame)
        return self.heard

    def _do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Play(audio=sound):
                    self._playing.extend(sound[i : i + 160] for i in range(0, len(sound), 160))
                case Mark(name=name):
                    self._playing.append(name)
                case Clear():
                    self._playing.clear()


def packet(number: int, payload: bytes) -> ReceivedPacket:
    """The frame of this number, exactly in time."""
    at_ns = ANSWERED_NS + number * PTIME_NS
    return ReceivedPacket(at_ns, number & 0xFFFF, number * 160, 7, 0, payload)


@cache
def good_call() -> CallRecord:
    """A call with the offline agent."""
    return a_call(Line().run(script(SOUND).audio, round(SECONDS * 50)))


def a_call(heard: list[bytes]) -> CallRecord:
    """A call of `SECONDS`, answered 30 ms after the INVITE, in which these frames were heard."""
    packets = [packet(number, payload) for number, payload in enumerate(heard)]
    return CallRecord(
        outcome="answered",
        status=200,
        call_id="c",
        invited_at=ANSWERED_NS / 1e9 - 0.03,
        answered_at=ANSWERED_NS / 1e9,
        ended_at=ANSWERED_NS / 1e9 + SECONDS,
        ended_by="caller",
        packets=packets,
        received_packets=len(packets),
        longest_gap_ms=20.0,
        stray=0,
        sent_packets=round(SECONDS * 50),
        first_sent_ns=ANSWERED_NS,
        sent_audio=b"",
        send_late_max_ms=0.4,
    )


def report_of(record: CallRecord) -> CallReport:
    """What is made of a call."""
    return judge(ORDER, script(SOUND), record)


def test_a_good_call() -> None:
    """All figures are what the line was made to do."""
    report = report_of(good_call())
    turns = [turn for turn in script(SOUND).turns if turn.ends < SECONDS * 50]
    assert report.failure is None
    assert report.set_up_ms == pytest.approx(30)
    assert report.first_audio_ms == 0.0  # this agent greets at once
    assert report.round_trips_ms == [DELAY_FRAMES * 20.0] * len(turns)
    # 60 ms until it is speech, 60 ms on the line, less where the answer has a gap just then.
    assert len(report.barge_ins_ms) == len(turns) // 2
    assert all(60 <= silent_ms <= 120 for silent_ms in report.barge_ins_ms)
    assert (report.received, report.lost, report.loss_permille) == (800, 0, 0.0)
    assert report.jitter_us == pytest.approx(0, abs=0.001)
    assert report.longest_gap_ms == 20.0
    assert report.sent_per_s == pytest.approx(50)


def test_loss_and_jitter() -> None:
    """One packet of 800 lost, every other one 2 ms late."""
    whole = good_call()
    late = [
        replace(packet, at_ns=packet.at_ns + packet.sequence % 2 * 2_000_000)
        for packet in whole.packets
        if packet.sequence != 400
    ]
    report = report_of(replace(whole, packets=late, received_packets=len(late)))
    assert (report.lost, report.loss_permille) == (1, 1.25)
    assert report.jitter_us == pytest.approx(2000, rel=0.01)
    assert jitter_us(late[:1]) is None


BROKEN: Final[dict[str, Callable[[], CallRecord]]] = {
    "dropped: the far end hung up": lambda: replace(good_call(), ended_by="callee"),
    "no audio": lambda: replace(good_call(), packets=[], received_packets=0),
    "nothing was heard for 3 s after the answer": lambda: a_call([audio.SILENT_FRAME] * 800),
    "audio broke off for over 1000 ms": lambda: replace(
        good_call(), packets=good_call().packets[:600]
    ),
    "no reply within 1 s to what was said": lambda: a_call(
        Line().run(audio.silence(2.0), 100) + [audio.SILENT_FRAME] * 700
    ),
    "the agent talked on for over 500 ms while the caller spoke": lambda: a_call(
        [audio.tone(440, 0.02)] * 800
    ),
    "the load generator is too slow: it sent fewer than 49 packets/s": lambda: replace(
        good_call(), sent_packets=700
    ),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_failures(reason: str) -> None:
    """What a caller would complain about is the reason of the failure."""
    assert report_of(BROKEN[reason]()).failure == reason


def test_unanswered_calls() -> None:
    """Who gives up on purpose has not failed; whom nobody answers has."""
    rung = replace(good_call(), answered_at=None, ended_by=None)
    given_up = replace(rung, outcome="canceled", status=487)
    assert judge(replace(ORDER, cancel=True), script(SOUND), given_up).failure is None
    assert report_of(replace(rung, outcome="timeout")).failure == "no answer within 5 s"
    refused = report_of(replace(rung, outcome="refused", status=503))
    assert refused.failure == "refused with SIP status 503"


def test_a_call_too_short_to_measure() -> None:
    """It has no round trip and no rate, and has not failed."""
    short = replace(good_call(), packets=[], received_packets=0, sent_packets=0, first_sent_ns=None)
    report = report_of(replace(short, ended_at=ANSWERED_NS / 1e9 + 0.01))
    assert (report.failure, report.round_trips_ms, report.sent_per_s) == (None, [], None)


async def test_a_call_through_the_stack() -> None:
    """The figures of a call through stand-in, worker and agent are those of its recording."""
    said = script(SOUND)
    with RunningStack() as stack:
        record = await stack.call(audio=said.audio, seconds=7.0)
    report = judge(ORDER, said, record)
    answered_ns = round((record.answered_at or 0) * 1e9)
    first_ns = recording.first_sound_ns(record.packets, after_ns=answered_ns)
    assert first_ns is not None
    assert report.first_audio_ms == pytest.approx((first_ns - answered_ns) / 1e6)
    assert report.received == len(record.packets)
    assert report.lost == recording.continuity(record.packets).lost
    gaps = recording.gaps(record.packets)
    assert gaps is not None
    assert report.longest_gap_ms is not None
    assert report.longest_gap_ms >= gaps.max_ms - 0.001
    assert len(report.round_trips_ms) == 2
    assert all(0 <= trip_ms < 1000 for trip_ms in report.round_trips_ms)
    assert len(report.barge_ins_ms) == 1
