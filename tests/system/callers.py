"""Many calls at once, each with a tone of its own, and what their callers heard."""

import asyncio
from collections.abc import Sequence

from loadtest import audio, recording
from loadtest.phone_plan import CallPlan, CallRecord
from loadtest.sip_phone import SipPhone

QUIET_S = 2.0
"""Long enough for the agent's greeting to be over."""
TONE_S = 1.0
PAUSE_S = 1.5
FIRST_HZ = 350.0
SPACING_HZ = 25.0


def tone_of(index: int) -> float:
    """The tone of a caller; neighbours can be told apart."""
    return FIRST_HZ + SPACING_HZ * index


def plan(to: str, index: int, seconds: float) -> CallPlan:
    """A caller that listens to the greeting, then says its tone again and again."""
    turn = audio.tone(tone_of(index), TONE_S) + audio.silence(PAUSE_S)
    turns = turn * int(seconds / (TONE_S + PAUSE_S))
    return CallPlan(to=to, audio=audio.silence(QUIET_S) + turns, seconds=seconds)


async def place(to: str, calls: int, seconds: float, per_second: float) -> list[CallRecord]:
    """Place calls at a rate; returns their records in order."""
    async with SipPhone() as phone:
        tasks = []
        for index in range(calls):
            tasks.append(asyncio.create_task(phone.call(plan(to, index, seconds))))
            await asyncio.sleep(1 / per_second)
        return await asyncio.gather(*tasks)


def wrong(records: Sequence[CallRecord]) -> list[str]:
    """What is wrong with the calls of `place`: unanswered, or another's tone, or none heard."""
    found = []
    for index, record in enumerate(records):
        if record.outcome != "answered" or record.ended_by != "caller":
            found.append(f"{index}: {record.outcome} {record.status}, ended by {record.ended_by}")
            continue
        first_ns = int(((record.answered_at or 0.0) + QUIET_S) * 1e9)
        spoken = [packet for packet in record.packets if packet.at_ns >= first_ns]
        if not recording.hears_only(recording.timeline(spoken), tone_of(index)):
            heard = recording.tones_hz(recording.timeline(spoken))
            found.append(f"{index}: said {tone_of(index):.0f} Hz, heard {heard}")
    return found


def longest_gap_ms(records: Sequence[CallRecord]) -> float:
    """The longest gap between two packets that any caller had."""
    return max(gap.max_ms for record in records if (gap := recording.gaps(record.packets)))
