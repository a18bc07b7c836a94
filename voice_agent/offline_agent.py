"""The default agent: no model, no network, no account. It repeats what the caller said.

Pure. It shows everything an agent does with a call: greet, listen, answer, let itself be
interrupted, react to keys, say goodbye.
"""

from collections.abc import Callable, Iterable
from typing import Final

from voice_agent.agent import Action, Agent, CallMetadata, Clear, EndCall, Mark, Play
from voice_agent.sounds import BEEP, GOODBYE, GREETING
from voice_agent.speech import SpeechDetector, SpeechEnded, SpeechStarted

GREETING_MARK: Final = "greeting"
GOODBYE_MARK: Final = "goodbye"


class OfflineAgent(Agent):
    """Greets, then says back each of the caller's turns.

    - The caller speaks while it plays something: it falls silent and listens (barge-in).
    - `#`: it says goodbye and ends the call when that was heard; nothing interrupts that.
    - `1` to `9`, `0`: it beeps that often, ten times for `0`. Other keys do nothing.
    """

    def __init__(self, is_voice: Callable[[bytes], bool] | None = None) -> None:
        self._speech = SpeechDetector(is_voice)
        self._unplayed: set[str] = set()
        self._answers = 0
        self._leaving = False

    def on_start(self, call: CallMetadata) -> Iterable[Action]:
        return () if call.resumed else self._say(GREETING, GREETING_MARK)

    def on_audio(self, frame: bytes) -> Iterable[Action]:
        if self._leaving:
            return ()
        match self._speech.push(frame):
            case SpeechStarted() if self._unplayed:
                return self._fall_silent()
            case SpeechEnded(audio=audio):
                return self._answer(audio)
        return ()

    def on_dtmf(self, digit: str) -> Iterable[Action]:
        if self._leaving:
            return ()
        if digit == "#":
            self._leaving = True
            return *self._fall_silent(), *self._say(GOODBYE, GOODBYE_MARK)
        return self._answer(BEEP * (int(digit) or 10)) if digit.isdecimal() else ()

    def on_mark(self, name: str) -> Iterable[Action]:
        self._unplayed.discard(name)
        return (EndCall(),) if name == GOODBYE_MARK else ()

    def _answer(self, audio: bytes) -> Iterable[Action]:
        self._answers += 1
        return self._say(audio, f"answer-{self._answers}")

    def _say(self, audio: bytes, mark: str) -> Iterable[Action]:
        self._unplayed.add(mark)
        return Play(audio), Mark(mark)

    def _fall_silent(self) -> Iterable[Action]:
        self._unplayed.clear()
        return (Clear(),)
