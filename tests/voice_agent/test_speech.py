"""Turns cut out of literal frames; the frames are the clock."""

from itertools import repeat

import pytest

from voice_agent.mulaw import FRAME_BYTES, encode, silence
from voice_agent.speech import (
    MAX_TURN_MS,
    SpeechDetector,
    SpeechEnded,
    SpeechEvent,
    SpeechStarted,
    is_loud,
)

QUIET = silence(20)
LOUD = encode([8000, -8000] * 80)


def push_all(detector: SpeechDetector, audio: bytes) -> list[tuple[int, SpeechEvent]]:
    """Push audio frame by frame; the events with the number of the frame that caused each."""
    events = []
    for number, start in enumerate(range(0, len(audio), FRAME_BYTES)):
        if event := detector.push(audio[start : start + FRAME_BYTES]):
            events.append((number, event))
    return events


def test_a_turn_begins_after_60_ms_and_ends_after_a_pause_of_400_ms() -> None:
    """It keeps 100 ms from before and 100 ms of the pause, and all in between unchanged."""
    events = push_all(SpeechDetector(), QUIET * 10 + LOUD * 50 + QUIET * 25)
    assert events == [
        (12, SpeechStarted()),
        (79, SpeechEnded(QUIET * 5 + LOUD * 50 + QUIET * 5)),
    ]


def test_a_turn_from_the_first_frame_on_has_no_lead() -> None:
    """What was never there can't be kept."""
    events = push_all(SpeechDetector(), LOUD * 5 + QUIET * 20)
    assert events == [(2, SpeechStarted()), (24, SpeechEnded(LOUD * 5 + QUIET * 5))]


def test_clicks_are_no_speech() -> None:
    """40 ms of noise again and again start nothing."""
    assert push_all(SpeechDetector(), (LOUD * 2 + QUIET) * 50) == []


def test_short_pauses_belong_to_the_turn() -> None:
    """380 ms of quiet between two words don't cut them apart."""
    spoken = LOUD * 10 + QUIET * 19 + LOUD * 10
    events = push_all(SpeechDetector(), spoken + QUIET * 20)
    assert [event for _, event in events] == [SpeechStarted(), SpeechEnded(spoken + QUIET * 5)]


def test_a_long_turn_is_cut() -> None:
    """A noisy line can't fill the memory, and the next turn begins at once."""
    frames = MAX_TURN_MS // 20
    events = push_all(SpeechDetector(), LOUD * (frames + 3))
    assert events == [
        (2, SpeechStarted()),
        (frames - 1, SpeechEnded(LOUD * frames)),
        (frames + 2, SpeechStarted()),
    ]


def test_the_next_turn_has_nothing_of_the_one_before() -> None:
    """Each turn's audio is handed out once."""
    other = encode([4000, -4000] * 80)
    detector = SpeechDetector()
    push_all(detector, LOUD * 10 + QUIET * 20)
    events = push_all(detector, QUIET * 2 + other * 10 + QUIET * 20)
    assert events[-1][1] == SpeechEnded(QUIET * 2 + other * 10 + QUIET * 5)


def test_frames_of_any_length_count_as_they_are() -> None:
    """Some senders use other frame lengths: the clock is the audio, not the call."""
    detector = SpeechDetector()
    events = [detector.push(part) for part in (b"", LOUD * 3, QUIET * 20)]
    assert events == [None, SpeechStarted(), SpeechEnded(LOUD * 3 + QUIET * 5)]


@pytest.mark.parametrize(
    ("amplitude", "loud"), [(0, False), (100, False), (280, False), (360, True), (8000, True)]
)
def test_the_threshold_is_40_db_below_full_scale(amplitude: int, loud: bool) -> None:
    """32124 is full scale, so the limit is at an RMS of 321."""
    assert is_loud(encode(repeat(amplitude, FRAME_BYTES))) is loud
