'''The seam between a call and what answers it: write your own agent against this file.

An agent serves one call. It is told what happens and answers with what to do. This one spells
out the keys that the caller presses, and hangs up on `#` after a farewell:

>>> from voice_agent.agent import Agent, Clear, EndCall, Mark, Play
>>> from voice_agent.sounds import BEEP, GOODBYE, GREETING
>>> class BeepingAgent(Agent):
...     """Beeps for each key."""
...
...     def on_start(self, call):
...         return Play(GREETING), Mark("greeted")
...
...     def on_dtmf(self, digit):
...         if digit == "#":
...             return Clear(), Play(GOODBYE), Mark("goodbye")
...         return (Play(BEEP),)
...
...     def on_mark(self, name):
...         return (EndCall(),) if name == "goodbye" else ()
>>> agent = BeepingAgent()
>>> list(agent.on_dtmf("5")) == [Play(BEEP)]
True
>>> list(agent.on_mark("goodbye"))
[EndCall()]

To use it, give it a name in `AGENTS` of `voice_agent/__main__.py` and start with that `AGENT`.

Handlers run in the event loop between two audio frames of all calls: they must not block. An
agent that waits for something, as a model behind a connection of its own, does that in `run`
and speaks through `act` whenever it has something to say.
'''

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeAlias

import msgspec


class CallMetadata(msgspec.Struct, frozen=True):
    """Which call an agent serves. `parameters` are the stream's custom parameters."""

    call_sid: str
    stream_sid: str
    account_sid: str
    parameters: Mapping[str, str]

    @property
    def resumed(self) -> bool:
        """Whether the caller has been talking to an agent already.

        The call's stream was interrupted and is opened again, so don't greet. (Twilio itself
        never resumes a stream; the open telephony stack says so by this parameter.)
        """
        return self.parameters.get("resumed") == "1"


class Play(msgspec.Struct, frozen=True):
    """Play µ-law audio (8,000 bytes per second, any length) after what is waiting already."""

    audio: bytes


class Mark(msgspec.Struct, frozen=True):
    """Ask for `on_mark(name)` when all audio before this was played, or was cleared."""

    name: str


class Clear(msgspec.Struct, frozen=True):
    """Stop playing and forget the audio that waits. Its marks come back at once."""


class SendDigits(msgspec.Struct, frozen=True):
    """Send keys (1 to 100 of 0-9, *, #, A-D) to the caller's side.

    The open telephony stack takes this message; Twilio has none like it and drops it.
    """

    digits: str


class EndCall(msgspec.Struct, frozen=True):
    """Close the stream now: audio that was not played yet is lost. Wait for a mark first."""


Action: TypeAlias = Play | Mark | Clear | SendDigits | EndCall


class PassedMark(msgspec.Struct, frozen=True):
    """A mark that came back, and what became of the audio between the mark before it and it.

    The times are None where the other side doesn't tell: Twilio does not, the open telephony
    stack does.
    """

    name: str
    played_ms: int | None = None
    cleared_ms: int | None = None


Act: TypeAlias = Callable[[Action], None]


class Agent(Protocol):
    """Answers one call. Derive from it and override what you need.

    Whatever a handler or `run` raises ends this call, and no other, with close code 1011.
    """

    def on_start(self, call: CallMetadata) -> Iterable[Action]:
        """The call's audio begins. Comes first, and once."""
        return ()

    def on_audio(self, frame: bytes) -> Iterable[Action]:
        """The caller's audio: µ-law, usually 20 ms (160 bytes). 50 times a second, so be quick."""
        return ()

    def on_dtmf(self, digit: str) -> Iterable[Action]:
        """The caller pressed a key: one of 0-9, *, #, A-D."""
        return ()

    def on_mark(self, name: str) -> Iterable[Action]:
        """The audio before this mark was played or cleared."""
        return ()

    def on_passed_mark(self, mark: PassedMark) -> Iterable[Action]:
        """As `on_mark`, for agents that need to know what was heard. Override one of the two."""
        return self.on_mark(mark.name)

    def on_stop(self) -> None:
        """The call is over, whoever ended it. Comes last, and once, if `on_start` came."""
        return

    async def run(self, act: Act) -> None:
        """The agent's own work beside the handlers. Begins after `on_start`.

        It may return early, and is cancelled when the call ends. Clean up in `finally`, quickly.
        """
        return


AgentFactory: TypeAlias = Callable[[], Agent]
"""Makes a new agent for each call."""
