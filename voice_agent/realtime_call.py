"""Decides what a call does next when a Realtime session answers it.

Pure: what happens goes in, with the time in seconds where it matters, and what to do comes out.
Rules that hold throughout: at most one response is asked for at a time; an interrupted answer
ends, for the caller and for the model, where the caller stopped hearing it.
"""

from typing import Final, Literal

from voice_agent.agent import Clear, EndCall, Mark, PassedMark, Play
from voice_agent.call_outputs import Later, Output, RunTool
from voice_agent.conversation import AnswerTurn, Conversation, ToolTurn
from voice_agent.mulaw import BYTES_PER_MS, FRAME_BYTES
from voice_agent.realtime_messages import (
    AppendAudio,
    AudioCommitted,
    AudioDelta,
    CallerTranscript,
    CancelResponse,
    CreateResponse,
    DeleteItem,
    ErrorEvent,
    Response,
    ResponseCreated,
    ResponseDone,
    ServerEvent,
    SpeechStarted,
    SpeechStopped,
    TranscriptDelta,
    TruncateItem,
    said,
    tool_answered,
)
from voice_agent.voice_run import VoiceRun

RETRY_S: Final = (0.5, 2.0)
"""Waits before a failed response is asked for again; after these the caller has to speak."""
DIGITS_PAUSE_S: Final = 1.5
"""Keys pressed within this time of each other are told to the model together."""
GOODBYE: Final = {
    "instructions": "Say goodbye to the caller in one short sentence.",
    "tool_choice": "none",
}


class RealtimeCall:
    """One call. Handlers return what to do; `conversation` is what was said."""

    def __init__(self, interrupt_ms: int) -> None:
        self.conversation = Conversation()
        self._interrupt_ms = interrupt_ms
        self._unheard: dict[str, AnswerTurn] = {}
        """Answers of this session whose audio has not all been played or cleared."""
        self._old: set[str] = set()
        """Items of earlier sessions: this one can't truncate them."""
        self._active = False
        """A response is asked for and not done; `_cancelled`: and nobody wants it any more."""
        self._cancelled = False
        self._response_id: str | None = None
        self._wanted = True  # the greeting
        self._serial = 0
        self._retries = 0
        self._running: dict[str, ToolTurn] = {}
        self._digits = ""
        self._digits_count = 0
        self._onset = False
        """The API heard speech begin over the answer, maybe a false start."""
        self._false_starts: set[str] = set()
        self._voice = VoiceRun()
        self._turn_over_s: float | None = None
        self._leaving: Literal["no", "asked", "goodbye"] = "no"

    def opened(self) -> list[Output]:
        """A session is there, the first or a later one: tell it what was said so far."""
        self._old.update(self._unheard)
        self._onset = False
        self._wanted = self._wanted or (self._active and not self._cancelled)
        self._active = self._cancelled = False
        out: list[Output] = list(self.conversation.replay())
        if self._wanted:
            out += self._respond()
        return out

    def stream_resumed(self) -> None:
        """The phone's stream was interrupted, and with it all that this call waited for.

        An answer that was not heard to its end is gone on with.
        """
        self._wanted = self._wanted or bool(self._unheard or self._running)
        for answer in self._unheard.values():
            answer.cut = True
            answer.marks_out = 0
        self._unheard.clear()
        for tool in self._running.values():
            tool.output = '{"error": "interrupted"}'
        self._running.clear()

    def leave(self) -> None:
        """The next response is the goodbye; the call ends when it was heard."""
        if self._leaving == "no":
            self._leaving = "asked"

    @property
    def all_heard(self) -> bool:
        """Whether the caller has heard (or cut off) every answer so far."""
        return not self._unheard

    # --- The caller

    def on_audio(self, frame: bytes, *, voiced: bool, now_s: float) -> list[Output]:
        """The caller's audio; `voiced`: it is speech, as far as can be told here."""
        self._voice.push(len(frame) // BYTES_PER_MS, voiced=voiced, now_s=now_s)
        return [AppendAudio(frame), *self._interrupt_if_meant()]

    def on_digit(self, digit: str) -> list[Output]:
        """The caller pressed a key."""
        if self._leaving != "no":
            return []
        self._digits += digit
        self._digits_count += 1
        return [Later(DIGITS_PAUSE_S, "digits", self._digits_count)]

    def on_mark(self, mark: PassedMark, now_s: float) -> list[Output]:
        """Audio was heard, or cleared. Marks are named `<item>/<ms of its audio until there>`."""
        item_id, _, end_ms = mark.name.rpartition("/")
        answer = self._unheard.get(item_id)
        if answer is None:
            return []
        if mark.played_ms is not None:
            answer.heard_ms += mark.played_ms
        elif not answer.cut:
            answer.heard_ms = int(end_ms)
        if self._turn_over_s is not None and answer.heard_ms:
            waited_ms = round((now_s - self._turn_over_s) * 1000) - answer.heard_ms
            answer.response_ms = max(0, waited_ms)
            self._turn_over_s = None
        answer.marks_out -= 1
        return self._settle(answer) if answer.marks_out == 0 else []

    def wake(self, later: Later) -> list[Output]:
        """The time of a `Later` has come; one that was overtaken does nothing."""
        if later.what == "digits":
            if later.serial != self._digits_count:
                return []
            text = f"(The caller pressed these keys of the phone: {self._digits})"
            self._digits = ""
            self.conversation.caller("", text)
            return [said("user", text), *self._respond()]
        return self._respond() if later.serial == self._serial else []

    # --- The tools

    def tool_answered(self, call_id: str, output: str) -> list[Output]:
        """A tool is done. When no other runs, the model says what comes of it."""
        self._running.pop(call_id).output = output
        out: list[Output] = [tool_answered(call_id, output)]
        return out if self._running else out + self._respond()

    # --- The API

    def on_event(self, event: ServerEvent) -> list[Output]:
        """Something happened in the session."""
        match event:
            case AudioDelta():
                return self._say(event)
            case TranscriptDelta(item_id=item_id, delta=text):
                if not self._is_stale(event.response_id):
                    self.conversation.answer(item_id).text += text
            case ResponseCreated(response=response):
                self._response_id = response.id
            case ResponseDone(response=response):
                return self._response_done(response)
            case ErrorEvent(error=error) if error.event_id == f"respond-{self._serial}":
                return self._failed() if self._active else []
            case _:
                return self._on_caller_event(event)
        return []

    def _on_caller_event(self, event: ServerEvent) -> list[Output]:
        match event:
            case SpeechStarted():
                self._onset = self._leaving == "no" and self._is_speaking
                return self._interrupt_if_meant()
            case SpeechStopped(item_id=item_id):
                if self._onset:
                    self._false_starts.add(item_id)
                else:
                    self._turn_over_s = self._voice.last_s
                self._onset = False
            case AudioCommitted(item_id=item_id):
                return self._committed(item_id)
            case CallerTranscript(item_id=item_id, transcript=text):
                self.conversation.caller_said(item_id, text)
        return []

    @property
    def _is_speaking(self) -> bool:
        return bool(self._unheard) or (self._active and not self._cancelled)

    def _is_stale(self, response_id: str) -> bool:
        """Whether something late belongs to an answer that was cancelled or replaced."""
        return self._cancelled or not self._active or response_id != self._response_id

    def _say(self, event: AudioDelta) -> list[Output]:
        if self._is_stale(event.response_id) or not event.delta:
            return []
        answer = self.conversation.answer(event.item_id)
        first = FRAME_BYTES if not answer.audio_bytes else 0  # its mark says: it is heard now
        self._unheard[answer.item_id] = answer
        out: list[Output] = []
        for part in (event.delta[:first], event.delta[first:]):
            if part:
                answer.audio_bytes += len(part)
                answer.marks_out += 1
                out += Play(part), Mark(f"{answer.item_id}/{answer.audio_ms}")
        self._retries = 0
        return out

    def _interrupt_if_meant(self) -> list[Output]:
        """Fall silent when the caller has spoken over the answer for long enough.

        What was heard of the answer is known when its marks are back.
        """
        if not self._onset or self._voice.voice_ms < self._interrupt_ms:
            return []
        self._onset = False
        out: list[Output] = [Clear()]
        if self._active and not self._cancelled:
            self._cancelled = True
            out.append(CancelResponse())
        for answer in self._unheard.values():
            answer.cut = True
        return out

    def _settle(self, answer: AnswerTurn) -> list[Output]:
        """All marks of an answer are back."""
        del self._unheard[answer.item_id]
        out: list[Output] = []
        if answer.cut:
            heard_ms = answer.heard_ms = min(answer.heard_ms, answer.audio_ms)
            if answer.item_id not in self._old and heard_ms < answer.audio_ms:
                out.append(TruncateItem(answer.item_id, heard_ms))
        return out + self._end_if_left()

    def _committed(self, item_id: str) -> list[Output]:
        if item_id in self._false_starts:
            self._false_starts.discard(item_id)
            return [DeleteItem(item_id)]
        self.conversation.caller(item_id)
        return self._respond() if self._leaving == "no" else []

    def _respond(self) -> list[Output]:
        """Ask for a response, or remember to when the running one, and all tools, are done."""
        if self._active or self._running:
            self._wanted = True
            return []
        out: list[Output] = []
        for answer in [a for a in self._unheard.values() if a.cut]:
            answer.marks_out = 0  # marks that are still out come too late for this response
            out += self._settle(answer)
        self._active, self._wanted, self._cancelled = True, False, False
        self._response_id = None
        self._serial += 1
        name = f"respond-{self._serial}"
        if self._leaving == "no":
            return [*out, CreateResponse(name)]
        self._leaving = "goodbye"
        return [*out, CreateResponse(name, GOODBYE)]

    def _response_done(self, response: Response) -> list[Output]:
        if not self._active or response.id != self._response_id:
            return []
        if response.status == "failed":
            return self._failed()
        self._active = self._cancelled = False
        out: list[Output] = []
        for item in response.output or () if response.status == "completed" else ():
            if item.type == "function_call" and item.call_id and item.name:
                turn = ToolTurn(item.call_id, item.name, item.arguments or "{}")
                self.conversation.tool(turn)
                self._running[turn.call_id] = turn
                out.append(RunTool(turn.call_id, turn.name, turn.arguments))
        if self._wanted and not self._running:
            out += self._respond()
        return out + self._end_if_left()

    def _failed(self) -> list[Output]:
        """No response comes of it. An interrupted one isn't missed; others are tried again."""
        missed = self._wanted or not self._cancelled
        self._active = self._cancelled = False
        if missed and self._retries < len(RETRY_S):
            self._retries += 1
            self._serial += 1
            return [Later(RETRY_S[self._retries - 1], "respond", self._serial)]
        self._retries = 0
        return self._end_if_left()

    def _end_if_left(self) -> list[Output]:
        over = self._leaving == "goodbye" and not self._active and not self._unheard
        return [EndCall()] if over else []
