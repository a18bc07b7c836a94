"""The scripts that run: one task for each call that is up."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from supervisor.calls.control import CallControl
from supervisor.phone.phone_call import CallRejected, CallStatus, Script
from supervisor.phone.phone_record import PhoneRecord
from supervisor.phone.script_run import ScriptRun
from supervisor.phone.switchboard import Switchboard
from supervisor.phone.verbs import Verb

log = structlog.get_logger()

WRONG_STATE = 21220
"""Twilio: "Invalid call state"."""


class CallRuns:
    """Starts, interrupts and ends scripts; owns all tasks of calls."""

    def __init__(self, switchboard: Switchboard, control: CallControl) -> None:
        self._board = switchboard
        self._control = control
        self._runs: dict[str, tuple[ScriptRun, asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __contains__(self, sid: str) -> bool:
        return sid in self._runs

    def record(self, record: PhoneRecord) -> None:
        """Start or stop to record the stream that is up."""
        self._control.record(record.sid, wanted=bool(record.recorded))

    def of(self, record: PhoneRecord) -> ScriptRun:
        """The call's script; raises CallRejected when the call isn't up."""
        run = self._runs.get(record.sid)
        if run is None:
            status = record.call.status.value
            raise CallRejected(WRONG_STATE, 400, f"the call is {status}, needed is in-progress")
        return run[0]

    def start(self, record: PhoneRecord) -> None:
        """Follow the call's script from where it is."""
        run = ScriptRun(record, self._board, self._control)
        task = self.hold(self._follow(run))
        self._runs[record.sid] = (run, task)

    def place(self, record: PhoneRecord, wait_s: float) -> None:
        """Place a call when its turn comes, and follow its script when it is answered."""
        self.hold(self._place(record, wait_s))

    async def redirect(
        self, record: PhoneRecord, script: Script | None = None, verbs: tuple[Verb, ...] = ()
    ) -> None:
        """Leave what the call does, and follow this instead."""
        run = self.of(record)
        await self._interrupt(record.sid)
        await run.leave()
        if record.held:
            await self.hold_caller(record, on=False)
        if self._board.thing(record).gone:
            await self._finish(run)
            raise CallRejected(WRONG_STATE, 400, "the call has ended meanwhile")
        record.script, record.verbs, record.at = script or record.script, verbs, 0
        self._board.save(record)
        self.start(record)

    async def hold_caller(self, record: PhoneRecord, *, on: bool) -> None:
        """Music for the caller, who isn't heard meanwhile; or that is over."""
        if record.held == on:
            return
        channel = record.call.channel_id
        await self._board.ari.switch(channel, "mute", on=on)
        await self._board.ari.switch(channel, "moh", on=on)
        if self._control.has_stream(record.sid):  # a voice server expects audio all the time
            media = self._board.names.media_id(record.sid)
            await self._board.ari.switch(media, "silence", on=on)
        record.held = on
        self._board.save(record)

    def hold(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something, and log if it fails."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    async def close(self) -> None:
        """Stop all tasks; what they have begun in Asterisk stays as it is."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _place(self, record: PhoneRecord, wait_s: float) -> None:
        if not record.placed:
            await asyncio.sleep(wait_s)
            if record.canceled:
                self._board.progress(record, CallStatus.CANCELED)
                return
            self._board.tell(record, "initiated")
        if await self._board.ring(record, lambda: False):
            self.start(record)

    async def _follow(self, run: ScriptRun) -> None:
        record = run.record
        if record.send_digits:
            digits, record.send_digits = record.send_digits, ""
            await run.send_digits(digits)
        await run.follow()
        await self._finish(run)

    async def _finish(self, run: ScriptRun) -> None:
        """The call is over: end what it still has."""
        record = run.record
        self._runs.pop(record.sid, None)
        await run.leave()
        answered = record.call.status is CallStatus.IN_PROGRESS
        self._board.progress(record, CallStatus.COMPLETED if answered else CallStatus.CANCELED)

    async def _interrupt(self, sid: str) -> None:
        _, task = self._runs.pop(sid)
        task.cancel()
        await asyncio.wait({task})

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("call_task_failed", exc_info=error)
