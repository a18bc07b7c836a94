"""The phone calls of this supervisor: `supervisor.phone.phone_call.PhoneCalls`, carried out.

Callers come from Asterisk, orders from the HTTP interface; both end in a script that runs
(`call_runs`). All state is in records, which a new supervisor loads and goes on with.
"""

import asyncio
import time
from contextlib import suppress

import msgspec
import structlog

from supervisor.ari.events import AriError, AriEvent
from supervisor.calls.control import CallControl
from supervisor.calls.events import CallerEntered
from supervisor.calls.names import new_sid
from supervisor.calls.state import OnEnd
from supervisor.phone import dial_target
from supervisor.phone.call_search import fits
from supervisor.phone.inbound_routes import DEFAULT, route
from supervisor.phone.orders import CallOrders
from supervisor.phone.phone_call import (
    CallOrder,
    CallQuery,
    CallRejected,
    CallStatus,
    Direction,
    Hangup,
    Order,
    PhoneCall,
)
from supervisor.phone.phone_record import PhoneRecord
from supervisor.phone.resumption import Resumption
from supervisor.phone.runs import WRONG_STATE, CallRuns
from supervisor.phone.switchboard import PhoneSettings, Switchboard
from supervisor.phone.twiml import TwimlError, parse

log = structlog.get_logger()

NOT_FOUND = 20404
CLOSE_S = 2.0
"""At the end callbacks that are under way have so long."""


class AllPhoneCalls:
    """Create it before Asterisk is listened to, have `resumption` load, and `close` it at the end.

    `draining`: no calls are placed any more, and no caller gets a script.
    """

    def __init__(self, switchboard: Switchboard, control: CallControl) -> None:
        self._board = switchboard
        self._control = control
        self._runs = CallRuns(switchboard, control)
        self._orders = CallOrders(switchboard, self._runs)
        self.resumption = Resumption(switchboard, self._runs, self._orders)
        self._swept_at_s = 0.0
        self.draining = False
        self._turning_away: set[str] = set()
        control.on_forgotten = switchboard.board.wake

    def renew(self, settings: PhoneSettings) -> None:
        """Go on with other settings."""
        self._board.renew(settings)

    # What Asterisk says

    def note(self, event: AriEvent) -> None:
        """An event has come."""
        self._board.board.note(event)

    def caller_entered(self, event: CallerEntered, *, up: bool) -> None:
        """A caller's channel is in our app; one that is known goes on by itself."""
        if self._board.find(event.channel_id) is not None:
            return
        if event.channel_id in self._turning_away:
            return  # seen once more, in the list of channels
        now_s = time.time()
        call = PhoneCall(
            sid=new_sid("CA"),
            account_sid=self._board.settings.account_sid,
            direction=Direction.INBOUND,
            caller=event.caller,
            called=event.called,
            created_at=now_s,
            updated_at=now_s,
            status=CallStatus.RINGING,
            channel_id=event.channel_id,
        )
        chosen = route(self._board.settings.routes, event.called)
        if self.draining and chosen is not DEFAULT:  # else the stream's admission refuses it
            self._runs.hold(self._turn_away(call))
            return
        record = PhoneRecord(call, script=chosen.script, verbs=chosen.verbs)
        self._board.enter(record)
        thing = self._board.thing(record)
        thing.entered, thing.up = True, up
        if chosen is DEFAULT:  # without a turn of the event loop in between
            self._control.happen(msgspec.structs.replace(event, call_sid=call.sid))
        self._runs.start(record)

    def is_away(self, call_sid: str) -> bool:
        """Whether the caller is kept out of the stream's bridge on purpose."""
        record = self._board.records.get(call_sid)
        return record is not None and bool(record.consulted_sid)

    # What operators want

    async def create(self, order: CallOrder) -> PhoneCall:
        """Queue a call; returns at once, before anything rings."""
        if self.draining:
            raise CallRejected(20503, 503, "the supervisor is draining: it takes no new calls")
        dial_target.party("To", order.to)
        dial_target.caller("From", order.caller, order.to)
        self._check_script(order)
        if order.record:
            self._board.check_recording()
        record = self._board.new_record(Direction.OUTBOUND_API, order.caller, order.to)
        record.script = order.script
        if not order.script.twiml and not order.script.url:
            record.script, record.verbs = None, DEFAULT.verbs
        record.callback, record.send_digits = order.callback, order.send_digits
        record.recorded = order.record or None
        record.timeout_s, record.time_limit_s = order.timeout_s, order.time_limit_s
        wait_s = self._board.guard.admit(record.sid, order.to, time.time())
        self._board.enter(record)
        self._runs.place(record, wait_s)
        return record.call

    def fetch(self, sid: str) -> PhoneCall | None:
        """A call, running or ended; None when there is none."""
        record = self._board.records.get(sid)
        return record.call if record else None

    def find(self, query: CallQuery) -> list[PhoneCall]:
        """The calls that fit, newest first."""
        calls = [record.call for record in self._board.records.values()]
        fitting = [call for call in calls if fits(call, query)]
        return sorted(fitting, key=lambda call: call.created_at, reverse=True)

    async def direct(self, sid: str, order: Order) -> PhoneCall:
        """Follow an order on a call; returns when that is done."""
        record = self._record(sid)
        try:
            await self._orders.follow(record, order)
        except AriError as error:
            raise CallRejected(20500, 502, f"Asterisk: {error}") from error
        return record.call

    def delete(self, sid: str) -> None:
        """Forget an ended call."""
        record = self._record(sid)
        if not record.call.status.is_final:
            status = record.call.status.value
            raise CallRejected(WRONG_STATE, 409, f"the call is {status}, allowed is an ended one")
        self._board.forget(sid)

    # Time, and the end

    def expire(self) -> None:
        """Do what is due by time: time limits, and the end of history."""
        now_s = time.time()
        if now_s - self._swept_at_s < 1:
            return
        self._swept_at_s = now_s
        for record in list(self._board.records.values()):
            call = record.call
            if call.status.is_final:
                if call.ended_at + self._board.settings.history_s < now_s and not record.notices:
                    self._board.forget(call.sid)
            elif call.answered_at and call.answered_at + record.time_limit_s < now_s:
                record.call.reason = "time limit"
                record.time_limit_s += 60  # ask again then, if it is still there
                self._runs.hold(self._end_late(call.sid))

    @property
    def running(self) -> int:
        """How many calls are not over."""
        return len(self._board.running)

    def in_progress(self) -> list[PhoneRecord]:
        """The records of all calls that are not over."""
        return list(self._board.running.values())

    async def end_all(self, reason: str) -> None:
        """End all calls; callers go on in the dialplan."""
        await self._runs.close()
        for record in self.in_progress():
            if record.call.status.is_final or record.call.direction is Direction.OUTBOUND_DIAL:
                continue  # it has ended with another, or will
            await self._end_one(record, reason)

    async def abandon(self) -> None:
        """Let go of all calls without a word to Asterisk: another supervisor has them."""
        await self._runs.close()
        for record in self.in_progress():
            self._board.forget(record.sid)

    async def wait_idle(self, seconds: float) -> None:
        """Wait until no call is left, or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.running:
                    self._board.ended.clear()
                    await self._board.ended.wait()

    async def close(self) -> None:
        """Stop all scripts; what they have begun stays as it is, and so do the records on disk."""
        await self._runs.close()
        await self._board.close(CLOSE_S)

    async def run(self) -> None:
        """Keep the records on disk."""
        await self._board.run()

    # Inside

    async def _end_one(self, record: PhoneRecord, reason: str) -> None:
        """End a call: an inbound caller goes on in the dialplan, others are hung up."""
        inbound = record.call.direction is Direction.INBOUND
        record.call.reason = reason
        if self._control.has_stream(record.sid):
            on_end = OnEnd.CONTINUE if inbound else OnEnd.HANG_UP
            self._control.end(record.sid, reason, on_end)
        else:
            await self._let_go(record.call, inbound=inbound)
        for leg in self.in_progress():
            if leg.call.parent_sid == record.sid and not leg.call.status.is_final:
                await self._board.drop_leg(leg)
        answered = record.call.status is CallStatus.IN_PROGRESS
        self._board.progress(record, CallStatus.COMPLETED if answered else CallStatus.CANCELED)

    async def _let_go(self, call: PhoneCall, *, inbound: bool) -> None:
        try:
            if inbound:
                await self._board.ari.continue_in_dialplan(call.channel_id)
            else:
                await self._board.ari.delete_channel(call.channel_id)
        except AriError as error:
            log.info("caller_left", call_id=call.sid, reason=str(error))

    async def _turn_away(self, call: PhoneCall) -> None:
        """No script for this caller: the dialplan's fallback has them."""
        log.warning("call_refused", call_id=call.sid, reason="draining")
        self._control.streams.measures.refused["draining"] += 1
        self._turning_away.add(call.channel_id)
        try:
            await self._let_go(call, inbound=True)
        finally:
            self._turning_away.discard(call.channel_id)

    async def _end_late(self, sid: str) -> None:
        await self.direct(sid, Hangup())

    def _record(self, sid: str) -> PhoneRecord:
        record = self._board.records.get(sid)
        if record is None:
            raise CallRejected(NOT_FOUND, 404, f"there is no call {sid}")
        return record

    def _check_script(self, order: CallOrder) -> None:
        try:
            if order.script.twiml:
                parse(order.script.twiml)
            for url in (order.script.url, order.script.fallback_url):
                if url and not order.script.twiml:
                    self._board.webhooks.check(url)
            if order.callback is not None:
                self._board.webhooks.check(order.callback.url)
        except TwimlError as error:
            raise CallRejected(12100, 400, str(error)) from error
        except ValueError as error:
            raise CallRejected(21205, 400, str(error)) from error
