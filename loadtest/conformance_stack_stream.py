"""Checks of this stack's side: what a voice server gets, from the handshake to the end.

Source: Twilio, "Media Streams - WebSocket Messages", and what this project adds to it
(docs/protocol.md).
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Final

from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from loadtest.conformance_report import Check
from loadtest.conformance_server import Json
from loadtest.conformance_stack import (
    AUTH_TOKEN,
    BEARER_TOKEN,
    StackCall,
    StackSide,
    expect,
    expect_that,
)
from shim.control import PressDigit, StreamEnded

DIGITS: Final = "0123456789*#ABCD"
LOST_FRAMES: Final = 5
LEAST_LEFT_MS: Final = 50
TICKS_OF_A_RETRY: Final = 15
"""The first retry of a broken stream comes at once, the second within 100 ms."""


async def opens_a_stream(stack: StackSide) -> str | None:
    """A call makes the worker open a WebSocket; `connected` is its first message, then `start`."""
    async with stack.call() as call:
        first, second = call.stream.messages[:2]
        expect("first", {"event": "connected", "protocol": "Call", "version": "1.0.0"}, first)
        expect("second event", "start", second["event"])
    return None


async def offers_nothing_in_the_handshake(stack: StackSide) -> str | None:
    """No Origin, subprotocol, extension (so no compression) or cookie; a User-Agent of its own."""
    async with stack.call() as call:
        for name in ("Origin", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Cookie"):
            expect(f"header {name}", None, call.stream.header(name))
        expect("extensions in use", [], call.stream.connection.protocol.extensions)
        agent = call.stream.header("User-Agent") or ""
        expect_that(agent.startswith("open-telephony-stack"), "a User-Agent of its own", agent)
        return agent


async def signs_the_handshake(stack: StackSide) -> str | None:
    """`X-Twilio-Signature` is valid to Twilio's own RequestValidator, query and all."""
    async with stack.call(signed=True) as call:
        signature = call.stream.header("X-Twilio-Signature") or ""
        valid = RequestValidator(AUTH_TOKEN).validate(stack.server.url, {}, signature)
        expect_that(valid, f"a valid signature of {stack.server.url}", signature)
    return None


async def shows_its_bearer_token(stack: StackSide) -> str | None:
    """`Authorization` holds the bearer token of the settings."""
    async with stack.call(signed=True) as call:
        expect("Authorization", f"Bearer {BEARER_TOKEN}", call.stream.header("Authorization"))
    return None


async def shows_no_token_without_one(stack: StackSide) -> str | None:
    """Without tokens in the settings the handshake has neither signature nor Authorization."""
    async with stack.call() as call:
        expect("X-Twilio-Signature", None, call.stream.header("X-Twilio-Signature"))
        expect("Authorization", None, call.stream.header("Authorization"))
    return None


async def describes_the_stream(stack: StackSide) -> str | None:
    """`start` has all of Twilio's fields: strings, and numbers for sampleRate and channels."""
    async with stack.call() as call:
        start = call.stream.messages[1]
        top = {"event", "sequenceNumber", "streamSid", "start"}
        expect("fields of the message", top, set(start))
        expect("sequenceNumber", "1", start["sequenceNumber"])
        body = start["start"]
        fields = {"accountSid", "streamSid", "callSid", "tracks", "mediaFormat", "customParameters"}
        expect("fields of start", fields, set(body))
        expect("tracks", ["inbound"], body["tracks"])
        media_format = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
        expect("mediaFormat", media_format, body["mediaFormat"])
        expect("streamSid in start", start["streamSid"], body["streamSid"])
    return None


async def uses_ids_like_twilios(stack: StackSide) -> str | None:
    """Ids have 34 characters: AC, CA or MZ and 32 hex digits; they are those of the call."""
    async with stack.call() as call:
        body = call.stream.messages[1]["start"]
        for name, prefix in (("accountSid", "AC"), ("callSid", "CA"), ("streamSid", "MZ")):
            proper = re.fullmatch(f"{prefix}[0-9a-f]{{32}}", body[name]) is not None
            expect_that(proper, f"{name} of {prefix} and 32 hex digits", body[name])
        expect("callSid", call.leg.call.call_sid, body["callSid"])
        expect("streamSid", call.leg.call.stream_sid, body["streamSid"])
    return None


async def passes_custom_parameters_on(stack: StackSide) -> str | None:
    """`customParameters` holds the call's own parameters, `source` and `format`, all strings."""
    own = {"tenant": "blue", "größe": 'ü\n"', "empty": ""}
    async with stack.call(own) as call:
        expected = {**own, "source": "asterisk-shim", "format": "ulaw"}
        expect("customParameters", expected, call.stream.messages[1]["start"]["customParameters"])
    return None


async def passes_the_callers_audio_on(stack: StackSide) -> str | None:
    """`media` has Twilio's fields, all strings, and each packet's audio byte by byte."""
    async with stack.call() as call:
        spoken = await call.speak(10)
        media = await call.stream.wait("media", len(spoken))
        for message in media:
            top = {"event", "sequenceNumber", "streamSid", "media"}
            expect("fields of the message", top, set(message))
            body = message["media"]
            expect("fields of media", {"track", "chunk", "timestamp", "payload"}, set(body))
            expect("types", {str}, {type(value) for value in body.values()})
            expect("track", "inbound", body["track"])
        expect("audio", spoken, call.stream.audio)
    return None


async def numbers_its_messages(stack: StackSide) -> str | None:
    """`sequenceNumber` counts all messages from 1 on, `chunk` the media messages."""
    async with stack.call() as call:
        await call.speak(3)
        await call.stream.wait("media", 3)
        await call.stream.mark("in between")
        await call.stream.wait("mark")
        call.rig.send(PressDigit(call.leg.call.call_sid, "5"))
        await call.stream.wait("dtmf")
        await call.speak(3)
        await call.stream.wait("media", 6)
        call.end()
        await call.stream.wait_ended()
        numbered = call.stream.messages[1:]
        sequence = [message["sequenceNumber"] for message in numbered]
        expect("sequenceNumber", [str(number + 1) for number in range(len(numbered))], sequence)
        chunks = [message["media"]["chunk"] for message in call.stream.of("media")]
        expect("chunk", ["1", "2", "3", "4", "5", "6"], chunks)
    return None


async def follows_the_callers_clock(stack: StackSide) -> str | None:
    """`timestamp` grows by 20 ms per packet, and lost packets show as a gap."""
    async with stack.call() as call:
        await call.speak(4)
        call.leg.lose(LOST_FRAMES)
        await asyncio.sleep(LOST_FRAMES * 0.02)  # so long the packets that are lost would take
        await call.speak(3)
        media = await call.stream.wait("media", 7)
        first, *later = (int(message["media"]["timestamp"]) for message in media)
        expect_that(first >= 0, "timestamps from the stream's start on", first)
        gap = LOST_FRAMES * 20
        expected = [20, 40, 60, 80 + gap, 100 + gap, 120 + gap]
        expect("ms since the first packet", expected, [ms - first for ms in later])
    return None


async def passes_digits_on(stack: StackSide) -> str | None:
    """Each key that the caller presses becomes a `dtmf` message, in order."""
    async with stack.call() as call:
        for digit in DIGITS:
            call.rig.send(PressDigit(call.leg.call.call_sid, digit))
        messages = await call.stream.wait("dtmf", len(DIGITS))
        expected = [{"track": "inbound_track", "digit": digit} for digit in DIGITS]
        expect("dtmf", expected, [message["dtmf"] for message in messages])
    return None


async def stops_and_closes(stack: StackSide) -> str | None:
    """When the call ends, `stop` is the last message, and the WebSocket is closed with 1000."""
    async with stack.call() as call:
        await call.speak(3)
        await call.stream.wait("media", 3)
        call.end()
        await call.stream.wait_ended()
        last = call.stream.messages[-1]
        spec = call.leg.call
        expected: Json = {
            "event": "stop",
            "sequenceNumber": "5",
            "streamSid": spec.stream_sid,
            "stop": {"accountSid": spec.account_sid, "callSid": spec.call_sid},
        }
        expect("last message", expected, last)
        expect("close code", 1000, call.stream.close_code)
    return None


async def leaves_time_after_stop(stack: StackSide) -> str | None:
    """The close comes a moment after `stop`: some libraries forget what is unread then."""
    async with stack.call() as call:
        call.end()
        await call.stream.wait("stop")
        stopped_ns = call.stream.received[-1].at_ns
        await call.stream.wait_ended()
        left_ms = (time.time_ns() - stopped_ns) / 1e6
        expect_that(left_ms > LEAST_LEFT_MS, f"more than {LEAST_LEFT_MS} ms", left_ms)
        return f"{left_ms:.0f} ms"


async def ends_when_the_bot_closes(stack: StackSide) -> str | None:
    """A close of the voice server with 1000 or without a code ends the stream for good."""
    for code in (1000, None):
        async with stack.call() as call:
            before = len(call.rig.of(StreamEnded))
            if code is None:
                call.stream.connection.protocol.send_close()
                call.stream.connection.send_data()
            else:
                await call.stream.connection.close(code)
            [ended] = await call.rig.wait(StreamEnded, after=before)
            expect("failed", False, ended.failed)
            await call.wait_packets(TICKS_OF_A_RETRY)
            expect("streams opened again", 0, stack.server.waiting)
    return None


async def opens_a_broken_stream_again(stack: StackSide) -> str | None:
    """After 1011 or a broken connection it opens the stream again: same ids, `resumed`, from 1."""
    for code in (1011, None):
        async with stack.call({"tenant": "blue"}) as call:
            await call.speak(2)
            await call.stream.wait("media", 2)
            if code is None:
                call.stream.connection.transport.abort()
            else:
                await call.stream.connection.close(code)
            again = await stack.server.next_stream(call.leg.call.call_sid)
            first, second = call.stream.messages[1], again.messages[1]
            first["start"]["customParameters"]["resumed"] = "1"
            expect("start", first, second)
            await StackCall(call.rig, call.leg, again).speak(1)
            [media] = await again.wait("media")
            expect("numbers", ("2", "1"), (media["sequenceNumber"], media["media"]["chunk"]))
    return None


CHECKS: Final[tuple[Check[StackSide], ...]] = (
    opens_a_stream,
    offers_nothing_in_the_handshake,
    signs_the_handshake,
    shows_its_bearer_token,
    shows_no_token_without_one,
    describes_the_stream,
    uses_ids_like_twilios,
    passes_custom_parameters_on,
    passes_the_callers_audio_on,
    numbers_its_messages,
    follows_the_callers_clock,
    passes_digits_on,
    stops_and_closes,
    leaves_time_after_stop,
    ends_when_the_bot_closes,
    opens_a_broken_stream_again,
)
