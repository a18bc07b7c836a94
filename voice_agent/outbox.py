"""What a call still has to send: an agent's actions become messages, in order.

Pure. The queue lets an agent go on listening while a slow connection takes a long answer, and
lets a `Clear` overtake the audio that was not sent yet.
"""

from collections import deque
from typing import Final

from voice_agent.agent import Action, Clear, EndCall, Mark, Play, SendDigits
from voice_agent.mulaw import SAMPLE_RATE_HZ
from voice_agent.stream_messages import (
    ClearMessage,
    DigitsBody,
    MarkBody,
    MarkMessage,
    MediaBody,
    MediaMessage,
    OutgoingMessage,
    SendDigitsMessage,
)

CHUNK_BYTES: Final = SAMPLE_RATE_HZ // 5
"""200 ms per media message: the first is soon there, and one is cheaper than ten of 20 ms."""
LIMIT_BYTES: Final = 600 * SAMPLE_RATE_HZ
"""Ten minutes of audio, which is also what Twilio buffers."""


class OutboxFullError(Exception):
    """More audio waits than a call may have."""


class Outbox:
    """The queue of one call. `put` actions, `take` messages; `ended` says: then close."""

    def __init__(self, stream_sid: str) -> None:
        self._stream_sid = stream_sid
        self._messages: deque[OutgoingMessage] = deque()
        self._audio_bytes = 0
        self.ended = False
        """An `EndCall` was put. What came before is still to be taken; nothing can follow."""

    def put(self, action: Action) -> None:
        """Add an action.

        Raises:
            OutboxFullError: the audio would be more than `LIMIT_BYTES`; none of it was added.
        """
        if self.ended:
            return
        match action:
            case Play(audio=audio):
                self._put_audio(audio)
            case Mark(name=name):
                self._messages.append(MarkMessage(self._stream_sid, MarkBody(name)))
            case Clear():
                self._drop_audio()
                self._messages.append(ClearMessage(self._stream_sid))
            case SendDigits(digits=digits):
                self._messages.append(SendDigitsMessage(self._stream_sid, DigitsBody(digits)))
            case EndCall():
                self.ended = True

    def take(self) -> OutgoingMessage | None:
        """The next message to send, None when there is none."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        if isinstance(message, MediaMessage):
            self._audio_bytes -= len(message.media.payload)
        return message

    def _put_audio(self, audio: bytes) -> None:
        if self._audio_bytes + len(audio) > LIMIT_BYTES:
            limit_s = LIMIT_BYTES // SAMPLE_RATE_HZ
            raise OutboxFullError(f"more than {limit_s} s of audio would wait for sending")
        self._audio_bytes += len(audio)
        for start in range(0, len(audio), CHUNK_BYTES):
            chunk = audio[start : start + CHUNK_BYTES]
            self._messages.append(MediaMessage(self._stream_sid, MediaBody(chunk)))

    def _drop_audio(self) -> None:
        """Forget unsent audio. Its marks stay: each mark comes back once, played or cleared."""
        self._messages = deque(m for m in self._messages if not isinstance(m, MediaMessage))
        self._audio_bytes = 0
