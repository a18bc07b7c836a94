"""Checks of this stack's side: what a voice server sends, audio and marks and all the rest.

Source: Twilio, "Media Streams - WebSocket Messages", section "Send WebSocket messages to Twilio",
and what this project adds to it (docs/protocol.md).
"""

from __future__ import annotations

import contextlib
import json
import time
from itertools import pairwise
from typing import Final

from websockets.exceptions import ConnectionClosed

from loadtest.audio import FRAME_BYTES, SILENCE_BYTE, SILENT_FRAME
from loadtest.conformance_report import Check
from loadtest.conformance_stack import StackCall, StackSide, expect, expect_that
from shim.control import SendDigits

PATTERN: Final = bytes(range(255)) * 40
"""About 1.3 s in which every byte but silence occurs, and no frame is like its neighbours."""
LATE_PACKETS: Final = 10
"""A mark may come back so many ticks late on a busy machine; on an idle one it is none."""
AT_ONCE_MS: Final = 200
"""On an idle machine it is 1 ms."""
MINUTES: Final = 5
GIANT_BYTES: Final = 2 << 20
FRAGMENT_BYTES: Final = 100_000


async def plays_pieces_of_any_size(stack: StackSide) -> str | None:
    """Audio in pieces of 1 to 8,000 bytes, sent in a burst, is heard byte by byte."""
    async with stack.call() as call:
        audio = PATTERN[:4001]
        await call.stream.play(audio[:40], 1)
        await call.stream.play(audio[40:1000], 159)
        await call.stream.play(audio[1000:2000], 161)
        await call.stream.play(audio[2000:])
        await call.until(lambda: len(call.leg.heard) >= len(audio), f"{len(audio)} bytes of audio")
        padding = SILENCE_BYTE * (-len(audio) % FRAME_BYTES)
        expect_that(call.leg.heard == audio + padding, "the audio and its padding", "other bytes")
    return None


async def paces_without_a_break(stack: StackSide) -> str | None:
    """Each 20 ms a packet of 160 bytes: silence when idle, numbered on through audio and all."""
    async with stack.call() as call:
        await call.wait_packets(10)
        await call.stream.play(PATTERN[:3200])
        await call.wait_packets(40)
        packets = call.leg.packets
        for before, after in pairwise(packets):
            expect("sequence number", (before.sequence + 1) % 2**16, after.sequence)
            expect("RTP timestamp", (before.timestamp + FRAME_BYTES) % 2**32, after.timestamp)
        expect("packet sizes", {FRAME_BYTES}, {len(packet.payload) for packet in packets})
        expect("SSRCs", 1, len({packet.ssrc for packet in packets}))
        expect("datagrams that are no RTP", 0, call.leg.malformed)
        seconds = (packets[-1].at_ns - packets[0].at_ns) / 1e9
        per_second = (len(packets) - 1) / seconds
        expect_that(47 < per_second < 53, "50 packets per second", round(per_second, 1))
        return f"{per_second:.1f} packets per second"


async def returns_an_idle_mark_at_once(stack: StackSide) -> str | None:
    """With nothing to play a mark comes straight back, its name unchanged."""
    async with stack.call() as call:
        for name in ("a label", "", 'ü "quoted"\n', "x" * 1000):
            before = len(call.stream.of("mark"))
            sent_ns = time.time_ns()
            await call.stream.mark(name)
            marks = await call.stream.wait("mark", before + 1)
            expect("mark", _figures(name, 0, 0), marks[-1]["mark"])
            took_ms = (call.stream.received[-1].at_ns - sent_ns) / 1e6
            expect_that(took_ms < AT_ONCE_MS, f"less than {AT_ONCE_MS} ms", took_ms)
            expect("streamSid", call.leg.call.stream_sid, marks[-1]["streamSid"])
    return None


async def returns_a_mark_when_played(stack: StackSide) -> str | None:
    """A mark comes back when the audio before it was sent to the caller, not before."""
    async with stack.call() as call:
        await call.stream.play(b"\x01" * 1600)
        await call.stream.mark("first")
        await call.stream.play(b"\x02" * 1600)
        await call.stream.mark("second")
        await call.stream.wait("mark", 2)
        await call.wait_packets(1)
        late = [_ticks_late(call, b"\x01", 0), _ticks_late(call, b"\x02", 1)]
        expect_that(max(late) <= LATE_PACKETS, f"marks within {LATE_PACKETS} ticks", late)
    return f"after {max(late)} more packet(s)"


async def returns_every_mark_once(stack: StackSide) -> str | None:
    """Marks come back in their order, each exactly once, equal names included."""
    names = ["part", "part", "other", "part", ""]
    async with stack.call() as call:
        for name in names:
            await call.stream.play(b"\x01" * 200)
            await call.stream.mark(name)
        await call.stream.wait("mark", len(names))
        await call.stream.mark("last")
        marks = await call.stream.wait("mark", len(names) + 1)
        expect("names", [*names, "last"], [mark["mark"]["name"] for mark in marks])
    return None


async def tolerates_a_mark_without_a_name(stack: StackSide) -> str | None:
    """A `mark` message without its `mark` object comes back with an empty name."""
    async with stack.call() as call:
        await call.stream.say("mark")
        [mark] = await call.stream.wait("mark")
        expect("mark", _figures("", 0, 0), mark["mark"])
    return None


async def accepts_messages_without_a_stream_sid(stack: StackSide) -> str | None:
    """A message without `streamSid` counts for its stream, as there is no other on a WebSocket."""
    async with stack.call() as call:
        message = {"event": "mark", "mark": {"name": "no sid"}}
        await call.stream.send(json.dumps(message))
        await call.stream.wait("mark")
    return None


async def clears_at_once(stack: StackSide) -> str | None:
    """After `clear` nothing of the old audio is heard, and its marks come back in order."""
    async with stack.call() as call:
        names = ["one", "two", "two"]
        for name in names:
            await call.stream.play(b"\x01" * 8000)
            await call.stream.mark(name)
        await call.until(lambda: len(call.leg.heard) > 0, "the audio's begin")
        await call.stream.say("clear")
        marks = await call.stream.wait("mark", len(names))
        expect("names", names, [mark["mark"]["name"] for mark in marks])
        await call.wait_packets(5)
        returned_ns = call.stream.received[-1].at_ns
        after = [packet for packet in call.leg.packets if packet.at_ns > returned_ns]
        expect("what follows the marks", {SILENT_FRAME}, {packet.payload for packet in after})
    return None


async def says_what_was_played(stack: StackSide) -> str | None:
    """Marks carry `playedMs` and `clearedMs` (ours): what became of the audio before them."""
    async with stack.call() as call:
        await call.stream.play(b"\x01" * 1600)
        await call.stream.mark("played")
        marks = await call.stream.wait("mark", 1)
        expect("mark", _figures("played", 200, 0), marks[0]["mark"])
        await call.stream.play(b"\x02" * 16000)
        await call.stream.mark("cut short")
        await call.until(lambda: b"\x02" in call.leg.heard, "the audio's begin")
        await call.stream.say("clear")
        marks = await call.stream.wait("mark", 2)
        await call.wait_packets(3)
        heard_ms = call.leg.heard.count(b"\x02") // 8
        expect("mark", _figures("cut short", heard_ms, 2000 - heard_ms), marks[1]["mark"])
    return f"{heard_ms} ms of 2000 were heard before the clear"


async def takes_minutes_in_advance(stack: StackSide) -> str | None:
    """Five minutes of audio, sent as fast as it is taken, wait; `clear` is rid of it at once."""
    async with stack.call() as call:
        await call.stream.play(b"\x01" * (MINUTES * 60 * 8000))
        await call.stream.mark("far away")
        await call.stream.say("clear")
        [mark] = await call.stream.wait("mark")
        sums = int(mark["mark"]["playedMs"]) + int(mark["mark"]["clearedMs"])
        expect("played and cleared ms", MINUTES * 60_000, sums)
    return None


async def clears_nothing_twice(stack: StackSide) -> str | None:
    """`clear` with nothing to clear is answered by nothing, and does no harm."""
    async with stack.call() as call:
        await call.stream.say("clear")
        await call.stream.say("clear")
        await call.stream.mark("after")
        await call.stream.wait("mark")
        expect("messages", 3, len(call.stream.messages))
    return None


async def plays_on_after_a_clear(stack: StackSide) -> str | None:
    """Audio that was sent after `clear` is played, from its first byte on."""
    async with stack.call() as call:
        await call.stream.play(b"\x01" * 16000)
        await call.until(lambda: len(call.leg.heard) > 0, "the audio's begin")
        await call.stream.say("clear")
        await call.stream.play(PATTERN[:1600])
        await call.until(lambda: call.leg.heard.endswith(PATTERN[1440:1600]), "the new audio")
        new = call.leg.heard.lstrip(b"\x01")
        # The pattern itself has 0x01 as its second byte, so nothing of it is lost here.
        expect_that(new == PATTERN[:1600], "the new audio alone", f"{len(new)} bytes")
    return None


async def sends_digits_for_the_bot(stack: StackSide) -> str | None:
    """A `dtmf` message of the voice server (ours, not Twilio's) has its digits sent."""
    async with stack.call() as call:
        before = len(call.rig.of(SendDigits))
        await call.stream.say("dtmf", dtmf={"digit": "12#"})
        sent = await call.rig.wait(SendDigits, after=before)
        expect("digits", [SendDigits(call.leg.call.call_sid, "12#")], sent)
    return None


async def survives_bad_messages(stack: StackSide) -> str | None:
    """What Twilio would drop with a warning is dropped, and the stream goes on."""
    bad: tuple[str | bytes, ...] = (
        b"\x00\x01",
        "{",
        "[]",
        '{"event": 1}',
        '{"event": "speak"}',
        '{"event": "media"}',
        '{"event": "media", "media": {"payload": "no base64!"}}',
        '{"event": "media", "streamSid": "MZ00", "media": {"payload": "AAAA"}}',
        '{"event": "dtmf", "dtmf": {"digit": "x"}}',
        "[" * 100_000,
    )
    async with stack.call() as call:
        for message in bad:
            await call.stream.send(message)
        await call.stream.mark("still here")
        await call.stream.wait("mark")
        expect("audio heard", b"", call.leg.heard)
    return f"{len(bad)} kinds"


async def refuses_a_giant_message(stack: StackSide) -> str | None:
    """A message above 1 MiB closes the WebSocket with 1009; the stream is opened again."""
    giant = json.dumps({"event": "media", "media": {"payload": "A" * GIANT_BYTES}})
    fragments = [
        giant[start : start + FRAGMENT_BYTES] for start in range(0, GIANT_BYTES, FRAGMENT_BYTES)
    ]
    for message in (giant, fragments):
        async with stack.call() as call:
            with contextlib.suppress(ConnectionClosed):  # it may be closed before all is sent
                await call.stream.connection.send(message)
            await call.stream.wait_ended()
            expect("close code", 1009, call.stream.close_code)
            await stack.server.next_stream(call.leg.call.call_sid)
    return "in one frame and in fragments"


CHECKS: Final[tuple[Check[StackSide], ...]] = (
    plays_pieces_of_any_size,
    paces_without_a_break,
    returns_an_idle_mark_at_once,
    returns_a_mark_when_played,
    returns_every_mark_once,
    tolerates_a_mark_without_a_name,
    accepts_messages_without_a_stream_sid,
    clears_at_once,
    says_what_was_played,
    takes_minutes_in_advance,
    clears_nothing_twice,
    plays_on_after_a_clear,
    sends_digits_for_the_bot,
    survives_bad_messages,
    refuses_a_giant_message,
)


def _figures(name: str, played_ms: int, cleared_ms: int) -> dict[str, str]:
    return {"name": name, "playedMs": str(played_ms), "clearedMs": str(cleared_ms)}


def _ticks_late(call: StackCall, byte: bytes, number: int) -> int:
    """How many packets came between the last of some audio and the mark behind it."""
    returned_ns = [received.at_ns for received in call.stream.received if received.event == "mark"]
    last_ns = max(packet.at_ns for packet in call.leg.packets if byte in packet.payload)
    expect_that(last_ns <= returned_ns[number], "the mark after its audio", "before it")
    return sum(last_ns < packet.at_ns < returned_ns[number] for packet in call.leg.packets)
