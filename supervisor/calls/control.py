"""Carries out what the call table decides: at Asterisk, and through `stream_control` at workers.

Each command becomes one request or message; what came of it goes back to the table as an event.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeAlias

import msgspec
import structlog

from supervisor.ari.events import (
    AriAbsent,
    AriError,
    AriTimeout,
    AriUnreachable,
    ChannelNotInStasis,
    media_address,
)
from supervisor.ari.rest import AriRest
from supervisor.calls import events as ev
from supervisor.calls.events import Command, Event
from supervisor.calls.measures import CallMeasures, outcome
from supervisor.calls.names import CallNames
from supervisor.calls.state import Call, Leg, OnEnd, Part, Phase, Presence
from supervisor.calls.table import CallTable
from supervisor.traces.tracing import Tracing
from supervisor.workers.stream_control import StreamControl

log = structlog.get_logger()

STEP_RETRY_S: Final = 0.25
Attempt: TypeAlias = Callable[[bool], Awaitable[None]]
"""A step of the set-up. It is told whether an earlier try may have succeeded after all."""


class CallControl:
    """Joins call table, ARI and workers.

    `on_forgotten` is told the call_sid when nothing of a stream is left.
    """

    def __init__(self, table: CallTable, ari: AriRest, names: CallNames, media_host: str) -> None:
        self._table = table
        self._ari = ari
        self._names = names
        self._media_host = media_host
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self.streams: StreamControl
        self.measures = CallMeasures()
        self.tracing: Tracing | None = None
        self.on_forgotten: Callable[[str], None] = lambda _: None

    def happen(self, event: Event) -> None:
        """Something happened: let the table decide, and do what it says."""
        self._carry_out(self._table.handle(event, time.monotonic_ns()))

    def expire(self) -> None:
        """Do what is due by time."""
        self._carry_out(self._table.expire(time.monotonic_ns()))

    def end(self, call_sid: str, reason: str, on_end: OnEnd) -> None:
        """End a stream, if there is one."""
        self._carry_out(self._table.end(call_sid, reason, on_end, time.monotonic_ns()))

    def knows(self, call_sid: str) -> bool:
        """Whether anything of the call's stream is left."""
        return call_sid in self._table.calls

    def has_stream(self, call_sid: str) -> bool:
        """Whether the call has a stream that isn't ending."""
        call = self._table.calls.get(call_sid)
        return call is not None and call.phase is not Phase.ENDING

    def end_all(self, reason: str) -> None:
        """End all calls; the callers go on in the dialplan."""
        for call_sid in list(self._table.calls):
            now_ns = time.monotonic_ns()
            self._carry_out(self._table.end(call_sid, reason, OnEnd.CONTINUE, now_ns))

    def abandon_all(self, reason: str) -> None:
        """Let go of all calls without a word to Asterisk: another supervisor has their callers."""
        for call_sid in list(self._table.calls):
            self._carry_out(self._table.abandon(call_sid, reason))

    def record(self, call_sid: str, *, wanted: bool) -> None:
        """Start or stop to record the call's stream, if it has one."""
        call = self._table.calls.get(call_sid)
        if call is not None and call.stream in (Presence.REQUESTED, Presence.PRESENT):
            self.streams.record(call, wanted=wanted)

    async def wait_idle(self, seconds: float) -> bool:
        """Wait until no call is left, or the time is over; whether none is."""
        try:
            async with asyncio.timeout(seconds):
                while self._table.calls:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, ev.Forget):
                self._forget(command.call)
            else:
                self._do(command, self._table.calls[command.call_sid])
        if self.tracing is not None:
            self.tracing.settle()

    def _do(self, command: Command, call: Call) -> None:  # noqa: C901 - one case per command
        sid = call.call_sid
        match command:
            case ev.Place():
                self.streams.place(call)
            case ev.CreateBridge():
                creating = partial(self._create_bridge, call)
                self._spawn(self._step(call, Part.BRIDGE, creating, ev.BridgeCreated(sid)))
            case ev.CreateMediaLeg():
                making = partial(self._create_media_leg, call)
                self._spawn(self._step(call, Part.MEDIA, making, ev.MediaLegCreated(sid)))
            case ev.OpenStream():
                self.streams.open(call)
            case ev.MoveStream():
                self.streams.move(call)
            case ev.Join(leg=leg):
                joining = partial(self._join, call, leg)
                self._spawn(self._step(call, f"join {leg}", joining, ev.Joined(sid, leg)))
            case ev.PressDigit(digit=digit):
                self.streams.press_digit(call, digit)
            case ev.SendDigits(digits=digits):
                self._spawn(self._send_digits(call, digits))
            case ev.CloseStream(reason=reason):
                self.streams.close(call, reason)
            case ev.RemovePart(part=part):
                self._spawn(self._removal(sid, part, self._remove(call, part)))
            case ev.ContinueCaller():
                leaving = self._ari.continue_in_dialplan(call.channel_id)
                self._spawn(self._removal(sid, Part.CALLER, leaving))

    async def _create_bridge(self, call: Call, again: bool) -> None:
        """Create the bridge; one that an earlier try has made is as good."""
        await self._ari.create_bridge(self._names.bridge_id(call.call_sid))

    async def _create_media_leg(self, call: Call, again: bool) -> None:
        """Create the ExternalMedia channel, or find the one that an earlier try has made."""
        media_id = self._names.media_id(call.call_sid)
        if again and await self._ari.get_channel(media_id) is not None:
            peer = await self._ari.get_media_address(media_id)
        else:
            external_host = f"{self._media_host}:{call.port}"
            peer = media_address(await self._ari.create_external_media(media_id, external_host))
        if call.call_sid in self._table.calls:
            self.streams.connect_media(call, peer)

    async def _join(self, call: Call, leg: Leg, again: bool) -> None:
        """Put a leg into the bridge, if an earlier try has not done it.

        The call may be over by then: what is looked at must not be made anew.
        """
        bridge_id = self._names.bridge_id(call.call_sid)
        media_id = self._names.media_id(call.call_sid)
        channel = call.channel_id if leg is Leg.CALLER else media_id
        bridge = await self._ari.get_bridge(bridge_id) if again else None
        if bridge is not None and channel in bridge.channels:
            return
        await self._ari.add_to_bridge(bridge_id, channel)

    async def _step(self, call: Call, step: str, attempt: Attempt, done: Event) -> None:
        """Take a step of the set-up; without an answer try again, as long as the call wants it.

        The set-up's time-out ends the call, and so the tries.
        """
        sid = call.call_sid
        again = False
        began_ns = time.monotonic_ns()
        setups = self.tracing and self.tracing.setups
        if setups:
            setups.step_began(sid, step, began_ns)
        while True:
            try:
                await attempt(again)
            except (AriError, OSError) as error:
                lost = isinstance(error, AriUnreachable | AriTimeout)
                again = lost and call.phase is not Phase.ENDING
                log.warning("setup_step", call_id=sid, step=step, reason=str(error), again=again)
                if not again:
                    if setups:
                        setups.step_ended(sid, step, time.monotonic_ns(), str(error))
                    self.happen(ev.StepFailed(sid, step, str(error)))
                    return
                await asyncio.sleep(STEP_RETRY_S)
            else:
                ended_ns = time.monotonic_ns()
                self.measures.step_done(step, ended_ns - began_ns)
                if setups:
                    setups.step_ended(sid, step, ended_ns)
                self.happen(done)
                return

    def _remove(self, call: Call, part: Part) -> Awaitable[None]:
        match part:
            case Part.CALLER:
                return self._ari.delete_channel(call.channel_id)
            case Part.MEDIA:
                return self._ari.delete_channel(self._names.media_id(call.call_sid))
            case Part.BRIDGE:
                return self._ari.delete_bridge(self._names.bridge_id(call.call_sid))

    async def _removal(self, sid: str, part: Part, work: Awaitable[None]) -> None:
        try:
            await work
        except (AriAbsent, ChannelNotInStasis):
            self.happen(ev.PartRemoved(sid, part))  # it has left by itself
        except AriError as error:
            log.warning("removal_failed", call_id=sid, part=part, reason=str(error))
            self.happen(ev.RemovalFailed(sid, part))
        else:
            self.happen(ev.PartRemoved(sid, part))

    async def _send_digits(self, call: Call, digits: str) -> None:
        try:
            await self._ari.send_dtmf(call.channel_id, digits)
        except AriError as error:
            log.warning("digits_not_sent", call_id=call.call_sid, reason=str(error))

    def _forget(self, call: Call) -> None:
        self.streams.forget(call.call_sid)
        self._idle.set()
        now_ns = time.monotonic_ns()
        self.measures.call_ended(call, now_ns)
        log.info(
            "call_ended",
            call_id=call.call_sid,
            worker=call.worker,
            outcome=outcome(call),
            reason=call.reason,
            setup_ms=(call.up_ns - call.started_ns) // 1_000_000 if call.up_ns else None,
            seconds=round((now_ns - call.started_ns) / 1e9, 1),
            **msgspec.structs.asdict(call.stats),
            **(msgspec.structs.asdict(call.quality) if call.quality else {}),
        )

        self.on_forgotten(call.call_sid)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("call_task_failed", exc_info=error)
