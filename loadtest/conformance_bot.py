"""The checks of a bot: what it does in a call that Twilio could have made."""

from __future__ import annotations

import asyncio
from typing import Final

from loadtest import audio
from loadtest.conformance_call import place_call
from loadtest.conformance_dial import Bot, Refused, sign
from loadtest.conformance_examination import (
    Examination,
    check_faults,
    need_token,
    sent,
    takes_the_next_call,
)
from loadtest.conformance_messages import new_sids
from loadtest.conformance_report import Check, NotApplicable, Unmet
from loadtest.conformance_rules import MAX_BUFFERED_MS, looks_linear

DIGITS: Final = "0123456789ABCD*#"
"""All that a phone can have. The last two are what bots use most to end something."""
GAP_S: Final = 0.5
LONGEST_AUDIO_S: Final = 30.0
EXTRAS: Final = {"playedMs": "0", "clearedMs": "0", "addedByThePhoneNetwork": "1"}


async def accepts_the_websocket(examined: Examination) -> str | None:
    """It accepts a handshake without Origin, subprotocol and extension, and stays for `start`."""
    async with place_call(examined.bot) as call:
        return await call.survives("connected and start")


async def accepts_its_signature(examined: Examination) -> str | None:
    """It accepts the right X-Twilio-Signature."""
    need_token(examined)
    async with place_call(examined.bot) as call:
        return await call.survives("a signed handshake")


async def refuses_a_wrong_signature(examined: Examination) -> str | None:
    """It refuses a signature made with another token (Twilio asks for it, and can't see it)."""
    need_token(examined)
    signature = sign(Bot(examined.bot.url, examined.bot.token + "?"))
    try:
        async with place_call(examined.bot, signature=signature):
            return "it accepts wrong signatures too: whoever finds the URL can talk to it"
    except Refused as refused:
        return f"refused with HTTP {refused.status}"


async def holds_a_conversation(examined: Examination) -> str | None:
    """It hears the caller speak twice, and ends the call with 1000 or not at all."""
    transcript = await examined.transcript()
    if examined.trouble is not None:
        raise examined.trouble
    events = ("media", "mark", "clear")
    return "the bot sent " + ", ".join(f"{transcript.count(event)} {event}" for event in events)


async def sends_only_known_messages(examined: Examination) -> str | None:
    """Every message is JSON text: media, mark or clear, with the fields that Twilio asks for."""
    transcript = await sent(examined)
    check_faults(transcript, "message")
    extras = sorted({name for message in transcript.messages for name in message.extras})
    return f"with fields that Twilio does not list: {', '.join(extras)}" if extras else None


async def names_its_stream(examined: Examination) -> str | None:
    """Every message has the `streamSid` of `start`."""
    check_faults(await sent(examined), "stream_sid")
    return None


async def encodes_audio_in_base64(examined: Examination) -> str | None:
    """Every payload decodes as base64, without line breaks or a data: prefix."""
    check_faults(await sent(examined, "media"), "payload")
    return None


async def sends_raw_mulaw(examined: Examination) -> str | None:
    """Payloads hold nothing but µ-law samples: no file header, no linear PCM."""
    transcript = await sent(examined, "media")
    check_faults(transcript, "file_header")
    if looks_linear(transcript.audio):
        raise Unmet("µ-law samples", "what looks like 16-bit linear PCM: full of zero bytes")
    return f"{len(transcript.audio) / audio.RATE_HZ:.1f} s of audio"


async def keeps_messages_small(examined: Examination) -> str | None:
    """No message is larger than 1 MiB, the stack's limit (98 s of audio)."""
    check_faults(await sent(examined), "size")
    return None


async def keeps_within_the_buffer(examined: Examination) -> str | None:
    """Never more than 10 minutes of its audio wait to be played."""
    most_ms = (await sent(examined, "media")).most_buffered_ms
    if most_ms > MAX_BUFFERED_MS:
        raise Unmet(f"at most {MAX_BUFFERED_MS} ms waiting", f"{most_ms} ms")
    return f"at most {most_ms / 1000:.1f} s waited"


async def goes_on_after_its_marks(examined: Examination) -> str | None:
    """It goes on when its marks come back, each after its audio was played."""
    async with place_call(examined.bot) as call:
        patience_s = examined.bot.patience_s
        if not await call.listen_until(lambda: call.transcript.count("mark") > 0, patience_s / 2):
            examined.speak(call)
            await call.listen(examined.bot.utterance_s)
            await call.listen_until(lambda: call.transcript.count("mark") > 0, patience_s)
        if not call.transcript.count("mark"):
            raise NotApplicable("the bot sent no mark")
        await call.listen_until(lambda: call.returned_marks > 0, LONGEST_AUDIO_S)
        if not call.returned_marks and call.close_code is None:
            raise NotApplicable(f"its audio takes longer than {LONGEST_AUDIO_S:g} s")
        return await call.survives("its mark came back")


async def goes_on_after_marks_in_a_burst(examined: Examination) -> str | None:
    """It goes on when all its marks come back at once, as after `clear`."""
    async with place_call(examined.bot, hold_marks=True) as call:
        await examined.provoke(call)
        await call.listen_until(lambda: len(call.held_marks) > 1, examined.bot.patience_s)
        held = len(call.held_marks)
        if not held:
            raise NotApplicable("the bot sent no mark, or its audio took too long")
        await call.return_marks()
        return await call.survives(f"{held} marks in a burst") or f"{held} marks"


async def goes_on_after_its_clear(examined: Examination) -> str | None:
    """It goes on when its `clear` was obeyed and the marks before it came back."""
    async with place_call(examined.bot) as call:
        await examined.provoke(call)
        await call.listen_until(lambda: call.playing, examined.bot.patience_s)
        examined.speak(call)
        await call.listen(examined.bot.utterance_s)
        if not call.transcript.count("clear"):
            raise NotApplicable("the bot sent no clear when the caller spoke into its audio")
        return await call.survives("clear")


async def survives_unknown_fields(examined: Examination) -> str | None:
    """Fields that it doesn't know do it no harm: Twilio adds some, and this stack has its own."""
    async with place_call(examined.bot) as call:
        call.messages.extras = EXTRAS
        await examined.provoke(call)
        return await call.survives("messages with additional fields")


async def survives_digits(examined: Examination) -> str | None:
    """It survives every key that a phone can have."""
    async with place_call(examined.bot) as call:
        for digit in DIGITS:
            await call.send(call.messages.dtmf(digit))
            await call.listen(0.1)
        return await call.survives(f"the digits {DIGITS}")


async def survives_a_long_silence(examined: Examination) -> str | None:
    """It survives a caller who says nothing."""
    async with place_call(examined.bot) as call:
        seconds = examined.bot.silence_s
        return await call.survives(f"{seconds:g} s of silence", seconds) or f"{seconds:g} s"


async def survives_a_gap(examined: Examination) -> str | None:
    """It survives half a second without media, as when the caller's packets are lost."""
    async with place_call(examined.bot) as call:
        examined.speak(call)
        await call.listen(GAP_S)
        call.muted = True
        await call.listen(GAP_S)
        call.muted = False
        return await call.survives(f"{GAP_S:g} s without media")


async def answers_pings(examined: Examination) -> str | None:
    """Its WebSocket answers pings: a worker takes a silent one for dead and opens the next."""
    async with place_call(examined.bot) as call:
        await call.ping()
    return None


async def keeps_calls_apart(examined: Examination) -> str | None:
    """Two calls at once get no messages of each other."""
    async with place_call(examined.bot) as one, place_call(examined.bot) as other:
        calls = (one, other)
        await asyncio.gather(*(examined.provoke(call) for call in calls))
        remarks = [await call.survives("another call beside it") for call in calls]
        for call, beside in (calls, calls[::-1]):
            sid = beside.sids.stream
            if any(sid in fault.came for fault in call.transcript.faults):
                raise Unmet("only messages of its own", f"{sid}, the stream of the call beside it")
    return next((remark for remark in remarks if remark), None)


async def takes_a_stream_again(examined: Examination) -> str | None:
    """A connection that broke is opened again with the same ids and the parameter `resumed`."""
    sids = new_sids()
    async with place_call(examined.bot, sids=sids) as call:
        await call.survives("start")
    async with place_call(examined.bot, {"resumed": "1"}, sids=sids) as again:
        await examined.provoke(again)
        return await again.survives("start with resumed")


async def ends_after_stop(examined: Examination) -> str | None:
    """After `stop` it answers the close frame, and takes the next call."""
    async with place_call(examined.bot) as call:
        await examined.provoke(call)
        await call.hang_up()
    return await takes_the_next_call(examined, "a call that ended with stop")


async def survives_an_early_hang_up(examined: Examination) -> str | None:
    """A caller who hangs up at once does it no harm: the next call is taken."""
    async with place_call(examined.bot) as call:
        await call.hang_up()
    return await takes_the_next_call(examined, "a stop right after start")


async def survives_an_abrupt_close(examined: Examination) -> str | None:
    """A connection that breaks in mid-call does it no harm: the next call is taken."""
    async with place_call(examined.bot) as call:
        await call.listen_until(lambda: call.playing, examined.bot.patience_s / 2)
    return await takes_the_next_call(examined, "a connection that broke")


CHECKS: Final[tuple[Check[Examination], ...]] = (
    accepts_the_websocket,
    accepts_its_signature,
    refuses_a_wrong_signature,
    holds_a_conversation,
    sends_only_known_messages,
    names_its_stream,
    encodes_audio_in_base64,
    sends_raw_mulaw,
    keeps_messages_small,
    keeps_within_the_buffer,
    goes_on_after_its_marks,
    goes_on_after_marks_in_a_burst,
    goes_on_after_its_clear,
    survives_unknown_fields,
    survives_digits,
    survives_a_long_silence,
    survives_a_gap,
    answers_pings,
    keeps_calls_apart,
    takes_a_stream_again,
    ends_after_stop,
    survives_an_early_hang_up,
    survives_an_abrupt_close,
)
