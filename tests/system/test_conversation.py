"""Conversations with the agent on the OpenAI Realtime API, heard by callers of the real Asterisk.

The API is our stand-in: what is generated, and when, is then known exactly.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loadtest import audio, recording
from loadtest.phone_plan import CallRecord
from loadtest.realtime_stand_in import Plan, RealtimeStandIn
from loadtest.recording import ReceivedPacket
from shim.pcmu import BYTES_PER_MS, PTIME_MS, SILENT_FRAME
from tests.supervisor.stack import RunningStack, hears
from voice_agent.sounds import tone

pytestmark = pytest.mark.asterisk

SENTENCE_MS = 20_000
"""Longer than any of these calls: it only ends by being interrupted."""
QUIET_S = 1.5
NOTICED_WITHIN_MS = 2000.0
"""On a quiet machine it is about 350 ms, 250 of them OPENAI_INTERRUPT_MS (see docs)."""
FIRST_HZ, SECOND_HZ = 520.0, 880.0


class Conversing(RunningStack):
    """The whole system, whose voice agent speaks to `api`."""

    api: RealtimeStandIn


@pytest.fixture
async def stack(asterisk_rootfs: Path) -> AsyncIterator[Conversing]:
    """The whole system on the real Asterisk and the stand-in for the Realtime API."""
    async with RealtimeStandIn() as api:
        settings = {"AGENT": "openai", "OPENAI_API_KEY": "any", "OPENAI_URL": api.url}
        running = Conversing(real=True, settings=settings)
        running.api = api
        await asyncio.to_thread(running.__enter__)
        try:
            yield running
        finally:
            await asyncio.to_thread(running.__exit__)


def sounding(packets: list[ReceivedPacket]) -> list[ReceivedPacket]:
    """The packets that are not silence."""
    return [packet for packet in packets if packet.payload != SILENT_FRAME]


async def test_the_caller_interrupts(stack: Conversing) -> None:
    """The agent falls silent, and tells the model how much of its sentence was heard."""
    stack.api.plans += [Plan(tone(FIRST_HZ, SENTENCE_MS)), Plan(tone(SECOND_HZ, 600))]
    said = audio.silence(QUIET_S) + audio.speech_burst(1.0)
    record = await stack.call(audio=said, seconds=5.0)
    (session,) = stack.api.sessions
    (truncated,) = session.of("conversation.item.truncate")
    sentence = [
        packet for packet in sounding(record.packets) if packet.payload in tone_frames(FIRST_HZ)
    ]
    heard_ms = len(sentence) * PTIME_MS
    assert abs(truncated["audio_end_ms"] - heard_ms) <= PTIME_MS
    assert 0 < until_silence_ms(record, sentence[-1]) < NOTICED_WITHIN_MS
    assert recording.power_share(recording.timeline(record.packets), SECOND_HZ) > 0.1
    assert stack.api.overlaps == 0
    await stack.until_idle()


def tone_frames(frequency_hz: float) -> set[bytes]:
    """The frames of the sentence, as they were generated."""
    sentence = tone(frequency_hz, SENTENCE_MS)
    frame_bytes = PTIME_MS * BYTES_PER_MS
    return {sentence[at : at + frame_bytes] for at in range(0, len(sentence), frame_bytes)}


def until_silence_ms(record: CallRecord, last: ReceivedPacket) -> float:
    """From the first packet of the caller's speech to the last one of the sentence."""
    assert record.first_sent_ns is not None
    return (last.at_ns - record.first_sent_ns) / 1e6 - QUIET_S * 1000


async def test_a_goodbye_is_heard_to_its_end(stack: Conversing) -> None:
    """The model calls `end_call`: each byte of the goodbye is at the caller's before the BYE."""
    goodbye = tone(SECOND_HZ, 1500)
    stack.api.plans += [
        Plan(tone(FIRST_HZ, 300)),
        Plan(tool=("end_call", "{}")),
        Plan(goodbye),
    ]
    said = audio.silence(QUIET_S) + audio.speech_burst(0.8)
    record = await stack.call(audio=said, seconds=15.0)
    assert record.ended_by == "callee"
    assert goodbye in b"".join(packet.payload for packet in record.packets)
    await stack.until_idle()


async def test_the_api_s_connection_is_lost(stack: Conversing) -> None:
    """In mid-sentence: a new session gets the conversation so far, and goes on with it."""
    stack.api.plans += [Plan(tone(FIRST_HZ, 600), over="lost"), Plan(tone(SECOND_HZ, 600))]
    async with stack.calling() as call:
        await stack.until(lambda: hears(call, FIRST_HZ) or hears(call, SECOND_HZ), "the agent")
        await stack.until(
            lambda: len(stack.api.sessions) == 2 and not stack.api.plans, "a new session"
        )
        lost, new = stack.api.sessions
        await stack.until(lambda: new.of("response.create"), "the answer is asked for again")
        assert len(lost.of("response.create")) == 1
        (replayed,) = new.of("conversation.item.create")
        assert replayed["item"]["role"] == "assistant"
        await stack.until(lambda: share(call.heard_since(0), SECOND_HZ) > 0.2, "it goes on")
    await stack.until_idle()


def share(packets: list[ReceivedPacket], frequency_hz: float) -> float:
    """How much of what was heard is a tone."""
    return recording.power_share(recording.timeline(packets), frequency_hz)


async def test_the_phone_s_stream_is_lost(stack: Conversing) -> None:
    """The worker dies in mid-sentence: the same conversation goes on over the resumed stream."""
    stack.api.plans += [Plan(tone(FIRST_HZ, SENTENCE_MS)), Plan(tone(SECOND_HZ, 600))]
    async with stack.calling() as call:
        await stack.until(lambda: len(sounding(call.heard_since(0))) > 100, "2 s of the sentence")
        (busy,) = (int(worker["worker"]) for worker in stack.workers() if worker["calls"])
        stack.kill_worker(busy, signal.SIGKILL)
        await stack.until(lambda: len(stack.api.sessions) == 2, "a new session")
        new = stack.api.sessions[1]
        await stack.until(lambda: new.of("response.create"), "the agent goes on")
        (replayed,) = new.of("conversation.item.create")
        assert replayed["item"]["role"] == "assistant"
        await stack.until(lambda: share(call.heard_since(0), SECOND_HZ) > 0.05, "it is heard")
    assert (await call.record).ended_by == "caller"
    await stack.until_idle()
