"""Carries out what an operator, or the voice server, orders on a call that is up."""

from typing import Final

import structlog

from supervisor.calls.names import CallNames
from supervisor.phone import dial_target
from supervisor.phone import phone_call as po
from supervisor.phone import verbs as vb
from supervisor.phone.dialing import Dialing
from supervisor.phone.phone_call import CallRejected, CallStatus
from supervisor.phone.phone_record import PhoneRecord
from supervisor.phone.runs import WRONG_STATE, CallRuns
from supervisor.phone.switchboard import Switchboard
from supervisor.phone.twiml import TwimlError, parse
from supervisor.rest.errors import Code

log = structlog.get_logger()

RING_S: Final = 30
"""How long a transfer's target, or an added party, is rung."""
NO_STREAM: Final = "the call has no stream now, needed is one"


class CallOrders:
    """One method per order; all raise CallRejected when it can't be followed."""

    def __init__(self, switchboard: Switchboard, runs: CallRuns) -> None:
        self._board = switchboard
        self._runs = runs
        self._names: CallNames = switchboard.names

    async def follow(self, record: PhoneRecord, order: po.Order) -> None:  # noqa: C901 - one case per order
        """Do it; returns when it is done, or what takes its time has begun."""
        match order:
            case po.Hangup():
                await self._hang_up(record)
            case po.NewScript(script=script):
                await self._new_script(record, script)
            case po.Transfer(target=target, attended=False):
                await self._runs.redirect(record, verbs=(self._transfer(target),))
            case po.Transfer(target=target):
                await self._consult(record, dial_target.party("the target", target))
            case po.CompleteTransfer():
                await self._complete(record)
            case po.CancelTransfer():
                await self._cancel(record)
            case po.Hold(on=on):
                _ = self._runs.of(record)
                await self._runs.hold_caller(record, on=on)
            case po.Mute(on=on):
                await self._mute(record, on)
            case po.PlayDigits(digits=digits):
                await self._runs.of(record).send_digits(digits)
            case po.AddParty(target=target, instead=instead):
                await self._add(record, dial_target.party("the target", target), instead)
            case po.Record(on=on):
                self._record(record, on)

    def _record(self, record: PhoneRecord, on: bool) -> None:
        """Record the stream that is up, and those that follow; or stop to."""
        _ = self._runs.of(record)
        if on:
            self._board.check_recording()
        record.recorded = on
        self._board.save(record)
        self._runs.record(record)

    async def _hang_up(self, record: PhoneRecord) -> None:
        if record.call.status.is_final:
            ended = record.call.status.value
            raise CallRejected(WRONG_STATE, 400, f"the call is {ended} already")
        record.canceled = True
        self._board.save(record)
        channel = record.call.channel_id
        if record.placed or record.call.direction is po.Direction.INBOUND:
            await self._board.ari.delete_channel(channel)
            thing = self._board.thing(record)
            thing.gone = True
        else:
            self._board.progress(record, CallStatus.CANCELED)
        self._board.board.wake(channel)

    async def _new_script(self, record: PhoneRecord, script: po.Script) -> None:
        if script.twiml:
            try:
                parse(script.twiml)
            except TwimlError as error:
                raise CallRejected(12100, 400, str(error)) from error
        else:
            self._check_url(script.url)
        await self._runs.redirect(record, script)

    def _check_url(self, url: str) -> None:
        try:
            self._board.webhooks.check(url)
        except ValueError as error:
            raise CallRejected(21205, 400, str(error)) from error

    def _transfer(self, target: str) -> vb.Verb:
        dial_target.transfer_target("the target", target)
        if place := dial_target.DIALPLAN.fullmatch(target):
            return vb.ToDialplan(place[1], place[2], int(place[3]))
        self._board.guard.check(target)
        return vb.Dial(target, timeout_s=RING_S)

    # Attended transfer

    async def _consult(self, record: PhoneRecord, target: str) -> None:
        self._need_stream(record)
        if record.consulted_sid:
            raise CallRejected(WRONG_STATE, 409, "the call is being transferred already")
        leg = self._new_leg(record, target)
        record.consulted_sid = leg.sid
        self._board.save(record)
        await self._set_aside(record)
        self._runs.hold(self.consultation(record, leg))

    async def consultation(self, record: PhoneRecord, leg: PhoneRecord) -> None:
        """From the target's ringing until they are gone, or have the caller."""
        bridge = self._names.bridge_id(record.sid)
        answered = leg.call.status is CallStatus.IN_PROGRESS
        if answered or await Dialing(record, self._board).ring(leg):
            if not answered:
                await self._board.ari.add_to_bridge(bridge, leg.call.channel_id)
            await self._until_gone(leg)
        if record.consulted_sid == leg.sid:  # else somebody has completed or canceled it
            await self._cancel(record)

    async def _complete(self, record: PhoneRecord) -> None:
        leg = self._board.records.get(record.consulted_sid)
        if leg is None or leg.call.status is not CallStatus.IN_PROGRESS:
            raise CallRejected(WRONG_STATE, 409, "no target of a transfer has answered")
        record.consulted_sid = ""
        await self._board.ari.switch(record.call.channel_id, "moh", on=False)
        await self._hand_to(record, leg)

    async def _cancel(self, record: PhoneRecord) -> None:
        leg = self._board.records.get(record.consulted_sid)
        if leg is None:
            raise CallRejected(WRONG_STATE, 409, "the call isn't being transferred")
        record.consulted_sid = ""
        self._board.save(record)
        await self._board.drop_leg(leg)
        if record.sid in self._runs and not self._board.thing(record).gone:
            channel = record.call.channel_id
            await self._board.ari.switch(channel, "moh", on=False)
            await self._board.ari.add_to_bridge(self._names.bridge_id(record.sid), channel)

    async def _set_aside(self, record: PhoneRecord) -> None:
        """The caller waits with music, outside of the stream's bridge."""
        channel = record.call.channel_id
        await self._board.ari.remove_from_bridge(self._names.bridge_id(record.sid), channel)
        await self._board.ari.switch(channel, "moh", on=True)

    async def _hand_to(self, record: PhoneRecord, leg: PhoneRecord) -> None:
        """The caller talks with the leg from now on; the stream ends."""
        await self._runs.redirect(record, verbs=(vb.Bridged(leg.sid),))

    # Others

    async def _mute(self, record: PhoneRecord, on: bool) -> None:
        self._need_stream(record)
        if record.muted != on:
            await self._board.ari.switch(self._names.media_id(record.sid), "mute", on=on)
            record.muted = on
            self._board.save(record)

    async def _add(self, record: PhoneRecord, target: str, instead: bool) -> None:
        self._need_stream(record)
        leg = self._new_leg(record, target)
        record.parties = [*record.parties, leg.sid]
        self._board.save(record)
        self._runs.hold(self.party(record, leg, instead))

    async def party(self, record: PhoneRecord, leg: PhoneRecord, instead: bool) -> None:
        """From a party's ringing until they are gone, or have the caller for themselves."""
        answered = leg.call.status is CallStatus.IN_PROGRESS
        if not answered and not await Dialing(record, self._board).ring(leg):
            record.parties = [sid for sid in record.parties if sid != leg.sid]
            return
        if instead:
            record.parties = [sid for sid in record.parties if sid != leg.sid]
            await self._hand_to(record, leg)
            return
        if not answered:
            bridge = self._names.bridge_id(record.sid)
            await self._board.ari.add_to_bridge(bridge, leg.call.channel_id)
        await self._until_gone(leg)
        if leg.sid in record.parties:
            record.parties = [sid for sid in record.parties if sid != leg.sid]
            await self._board.drop_leg(leg)

    def _new_leg(self, record: PhoneRecord, target: str) -> PhoneRecord:
        leg = Dialing(record, self._board).new_leg(target, "", RING_S)
        if leg.call.status.is_final:
            raise CallRejected(Code.INVALID_TO, 403, leg.call.reason)
        return leg

    def _need_stream(self, record: PhoneRecord) -> None:
        if not self._runs.of(record).has_stream:
            raise CallRejected(WRONG_STATE, 409, NO_STREAM)

    async def _until_gone(self, leg: PhoneRecord) -> None:
        thing = self._board.thing(leg)
        await self._board.board.until(lambda: thing.gone, (leg.call.channel_id,))
