"""A bot under examination: the conversation that several checks look at, and what they share."""

from __future__ import annotations

from typing import Final

from loadtest import audio
from loadtest.conformance_call import PlayedCall, Transcript, place_call
from loadtest.conformance_dial import Bot
from loadtest.conformance_report import NotApplicable, Unmet
from loadtest.conformance_rules import Rule

PAUSE_S: Final = 1.0
"""After this the caller's turn is over for any bot."""


class Examination:
    """One bot, and what it said in the conversation that several checks look at."""

    def __init__(self, bot: Bot) -> None:
        self.bot = bot
        self.trouble: Unmet | None = None
        """How the conversation came to a bad end."""
        self._transcript: Transcript | None = None

    async def transcript(self) -> Transcript:
        """What the bot sent in a conversation of two utterances; held once, when first asked for.

        The caller waits for the bot to speak, speaks (into the greeting, if there is one), waits
        for the answer, and interrupts it.
        """
        if self._transcript is None:
            async with place_call(self.bot) as call:
                await self.provoke(call)
                await call.listen_until(lambda: call.playing, self.bot.patience_s)
                self.speak(call)
                try:
                    await call.survives("a conversation", self.bot.utterance_s + PAUSE_S)
                except Unmet as trouble:
                    self.trouble = trouble
                self._transcript = call.transcript
        return self._transcript

    async def provoke(self, call: PlayedCall) -> None:
        """Wait for a greeting, then say something and wait until it was said."""
        await call.listen_until(lambda: call.playing, self.bot.patience_s / 2)
        self.speak(call)
        await call.listen(self.bot.utterance_s)

    def speak(self, call: PlayedCall) -> None:
        """The caller says something."""
        call.speak(audio.speech_burst(self.bot.utterance_s))


def need_token(examined: Examination) -> None:
    """Raise NotApplicable when there is no auth token to sign with."""
    if not examined.bot.token:
        raise NotApplicable("no --token was given")


def check_faults(transcript: Transcript, rule: Rule) -> None:
    """Raise the first fault of a kind, and say how many more there were."""
    faults = [fault for fault in transcript.faults if fault.rule == rule]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise Unmet(faults[0].expected, faults[0].came + more)


async def sent(examined: Examination, event: str = "") -> Transcript:
    """The conversation; raises NotApplicable if the bot sent nothing, or nothing of this kind."""
    transcript = await examined.transcript()
    if event and not transcript.count(event):
        raise NotApplicable(f"the bot sent no {event}")
    if not transcript.messages and not transcript.faults:
        raise NotApplicable("the bot sent nothing")
    return transcript


async def takes_the_next_call(examined: Examination, what: str) -> str | None:
    """Call once more: the bot takes it as if nothing had been; raises Unmet."""
    async with place_call(examined.bot) as call:
        return await call.survives(f"{what}, in the next call")
