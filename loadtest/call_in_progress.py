"""What a call of the phone is, whoever began it: an answer, a leg of audio, an end, a record."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from loadtest.phone_media import MediaLeg, PhoneMedia
from loadtest.phone_plan import CallRecord, Outcome, Party
from loadtest.recording import ReceivedPacket


class CallInProgress:
    """A call with its audio. Whoever makes it sets `record`, the task that gives its record."""

    record: asyncio.Task[CallRecord]

    def __init__(self, call_id: str, media: PhoneMedia, *, keep_packets: bool) -> None:
        loop = asyncio.get_running_loop()
        self.call_id = call_id
        self._media = media
        self._leg: MediaLeg = media.open_leg(keep_packets, on_error=self.fail)
        self._invited_at = time.monotonic()
        self._ended_at: float | None = None
        self._answered: asyncio.Future[float] = loop.create_future()
        self._ended: asyncio.Future[Party] = loop.create_future()

    async def answered(self) -> bool:
        """Wait for the answer; False when the call ended without one."""
        either: list[asyncio.Future[Any]] = [self._answered, self.record]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return self._answered.done()

    def play(self, audio: bytes, loop: bool = False) -> None:
        """Say this µ-law audio from the next 20 ms on, in place of what is being said."""
        self._leg.mouth.play(audio, loop)

    def heard_since(self, at_ns: int) -> list[ReceivedPacket]:
        """The packets that have arrived at or after a time (of `time.monotonic_ns()`)."""
        return self._leg.ear.heard_since(at_ns)

    def fail(self, error: BaseException) -> None:
        """End the call because its audio or the phone broke: `record` raises this error."""
        if not self._ended.done():
            self._ended.set_exception(error)

    def _end(self, party: Party) -> None:
        if not self._ended.done():
            self._ended.set_result(party)
            self._ended_at = time.monotonic()

    def _record(self, outcome: Outcome, status: int) -> CallRecord:
        leg = self._leg
        self._media.close_leg(leg)  # what has arrived by now belongs to the call
        return CallRecord(
            outcome=outcome,
            status=status,
            call_id=self.call_id,
            invited_at=self._invited_at,
            answered_at=self._answered.result() if self._answered.done() else None,
            ended_at=self._ended_at or time.monotonic(),
            ended_by=self._ended.result() if self._answered.done() else None,
            packets=leg.ear.packets,
            received_packets=leg.ear.received,
            longest_gap_ms=leg.ear.longest_gap_ns / 1e6,
            stray=leg.ear.stray,
            sent_packets=leg.sent_packets,
            first_sent_ns=leg.first_sent_ns,
            sent_audio=bytes(leg.mouth.said),
            send_late_max_ms=leg.send_late_max_ns / 1e6,
        )
