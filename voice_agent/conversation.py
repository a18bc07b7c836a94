"""What was said in a call so far, by both sides, and how quickly.

Pure. An answer counts as far as the caller heard it, not as far as it was generated.
"""

from typing import TypeAlias

import msgspec

from voice_agent.mulaw import BYTES_PER_MS
from voice_agent.realtime_messages import CreateItem, said, tool_answered, tool_called

UNTRANSCRIBED = "(The caller said something that was not written down.)"


class CallerTurn(msgspec.Struct, tag="caller"):
    """The caller spoke, or pressed keys. `text` comes later than the turn, or never."""

    item_id: str
    text: str = ""


class AnswerTurn(msgspec.Struct, tag="answer"):
    """The agent spoke. `heard_ms` grows as the marks in its audio come back."""

    item_id: str
    text: str = ""
    audio_bytes: int = 0
    heard_ms: int = 0
    marks_out: int = 0
    cut: bool = False
    """The caller interrupted it."""
    response_ms: int | None = None
    """From the end of the caller's speech until the first audio of this was heard."""

    @property
    def audio_ms(self) -> int:
        """How long what was generated is."""
        return self.audio_bytes // BYTES_PER_MS

    @property
    def heard_text(self) -> str:
        """The part of the text that was heard, in proportion to the audio that was."""
        if not self.cut or self.heard_ms >= self.audio_ms:
            return self.text
        return self.text[: len(self.text) * self.heard_ms // self.audio_ms]


class ToolTurn(msgspec.Struct, tag="tool"):
    """The model used a tool; `output` is None while it runs."""

    call_id: str
    name: str
    arguments: str
    output: str | None = None


Turn: TypeAlias = CallerTurn | AnswerTurn | ToolTurn


class Conversation:
    """The turns of a call in order."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self._answers: dict[str, AnswerTurn] = {}
        self._callers: dict[str, CallerTurn] = {}

    def caller(self, item_id: str, text: str = "") -> None:
        """The caller's turn is over; keys come with their text, speech gets it later."""
        turn = CallerTurn(item_id, text)
        self._callers[item_id] = turn
        self.turns.append(turn)

    def caller_said(self, item_id: str, text: str) -> None:
        """The words of a caller's turn; of one that isn't known they are dropped."""
        if turn := self._callers.get(item_id):
            turn.text = text

    def answer(self, item_id: str) -> AnswerTurn:
        """The answer with this id, new if it is not known yet."""
        turn = self._answers.get(item_id)
        if turn is None:
            turn = self._answers[item_id] = AnswerTurn(item_id)
            self.turns.append(turn)
        return turn

    def known_answer(self, item_id: str) -> AnswerTurn | None:
        """The answer with this id, if there is one."""
        return self._answers.get(item_id)

    def tool(self, turn: ToolTurn) -> None:
        """The model calls a tool."""
        self.turns.append(turn)

    def replay(self) -> list[CreateItem]:
        """The conversation as items that tell it to a new session."""
        items: list[CreateItem] = []
        for turn in self.turns:
            match turn:
                case CallerTurn(text=text):
                    items.append(said("user", text or UNTRANSCRIBED))
                case AnswerTurn():
                    if text := turn.heard_text:
                        items.append(said("assistant", text))
                case ToolTurn(call_id=call_id, output=output):
                    items.append(tool_called(call_id, turn.name, turn.arguments))
                    if output is not None:
                        items.append(tool_answered(call_id, output))
        return items
