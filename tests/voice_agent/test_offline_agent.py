"""The offline agent on literal frames."""

import pytest

from voice_agent.agent import Action, CallMetadata, Clear, EndCall, Mark, Play
from voice_agent.mulaw import FRAME_BYTES, encode, silence
from voice_agent.offline_agent import OfflineAgent
from voice_agent.sounds import BEEP, GOODBYE, GREETING

QUIET = silence(20)
LOUD = encode([8000, -8000] * 80)
CALL = CallMetadata("CA1", "MZ1", "AC1", {})


def hear(agent: OfflineAgent, audio: bytes) -> list[Action]:
    """Let the agent hear audio frame by frame; all that it does."""
    return [
        action
        for start in range(0, len(audio), FRAME_BYTES)
        for action in agent.on_audio(audio[start : start + FRAME_BYTES])
    ]


@pytest.fixture
def agent() -> OfflineAgent:
    """An agent whose greeting was heard."""
    agent = OfflineAgent()
    agent.on_start(CALL)
    agent.on_mark("greeting")
    return agent


def test_it_greets() -> None:
    """With a mark, to know when it was heard."""
    assert list(OfflineAgent().on_start(CALL)) == [Play(GREETING), Mark("greeting")]


def test_it_does_not_greet_twice() -> None:
    """A resumed stream belongs to a caller who was greeted."""
    resumed = CallMetadata("CA1", "MZ1", "AC1", {"resumed": "1"})
    assert list(OfflineAgent().on_start(resumed)) == []


def test_it_repeats_what_was_said(agent: OfflineAgent) -> None:
    """Each turn, with a mark of its own."""
    assert hear(agent, LOUD * 10 + QUIET * 20) == [
        Play(LOUD * 10 + QUIET * 5),
        Mark("answer-1"),
    ]
    agent.on_mark("answer-1")
    assert hear(agent, LOUD * 5 + QUIET * 20)[1:] == [Mark("answer-2")]


def test_it_falls_silent_when_the_caller_speaks(agent: OfflineAgent) -> None:
    """Once per interruption, 60 ms after the caller began."""
    hear(agent, LOUD * 10 + QUIET * 20)
    assert hear(agent, LOUD * 2) == []
    assert hear(agent, LOUD * 20) == [Clear()]
    assert hear(agent, QUIET * 20)[1:] == [Mark("answer-2")]


def test_it_clears_nothing_when_it_is_silent(agent: OfflineAgent) -> None:
    """All that it said was heard."""
    hear(agent, LOUD * 10 + QUIET * 20)
    agent.on_mark("answer-1")
    assert hear(agent, LOUD * 10) == []


def test_hash_says_goodbye_and_ends_the_call_when_that_was_heard(agent: OfflineAgent) -> None:
    """Nothing holds it up: neither what was being played nor what the caller says or presses."""
    hear(agent, LOUD * 10 + QUIET * 20)
    assert list(agent.on_dtmf("#")) == [Clear(), Play(GOODBYE), Mark("goodbye")]
    assert hear(agent, LOUD * 10 + QUIET * 20) == []
    assert list(agent.on_dtmf("#")) == []
    assert list(agent.on_mark("answer-1")) == []
    assert list(agent.on_mark("goodbye")) == [EndCall()]


@pytest.mark.parametrize(("digit", "beeps"), [("1", 1), ("3", 3), ("9", 9), ("0", 10)])
def test_digits_beep(agent: OfflineAgent, digit: str, beeps: int) -> None:
    """As often as the digit says."""
    assert list(agent.on_dtmf(digit)) == [Play(BEEP * beeps), Mark("answer-1")]


@pytest.mark.parametrize("key", ["*", "A", "D"])
def test_other_keys_do_nothing(agent: OfflineAgent, key: str) -> None:
    """They have no meaning here."""
    assert list(agent.on_dtmf(key)) == []
