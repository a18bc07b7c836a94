"""Connects a caller with another party: `<Dial>`, transfers, take-over, conference.

The dialed call has a record of its own, with the caller's as its parent. The two meet in a bridge
that is named after the dialed call.
"""

import structlog

from supervisor.ari.events import AriAbsent, ChannelNotInStasis
from supervisor.phone import dial_target
from supervisor.phone import verbs as vb
from supervisor.phone.phone_call import CallRejected, CallStatus, Direction
from supervisor.phone.phone_record import PhoneRecord
from supervisor.phone.switchboard import Switchboard

log = structlog.get_logger()


class Dialing:
    """The parties that one caller is, or shall be, connected with."""

    def __init__(self, record: PhoneRecord, switchboard: Switchboard) -> None:
        self._record = record
        self._board = switchboard
        self._caller = switchboard.thing(record)

    async def dial(self, verb: vb.Dial) -> PhoneRecord:
        """Call the target and connect the two until one hangs up; returns the dialed call."""
        record = self._record
        leg = self._board.records.get(record.leg_sid)
        if leg is None:
            leg = self.new_leg(verb.target, verb.caller_id, verb.timeout_s)
            record.leg_sid = leg.sid
            self._board.save(record)
        try:
            if leg.call.status is CallStatus.IN_PROGRESS or await self._ring(leg, verb):
                await self.talk(leg, verb.time_limit_s, star=verb.hangup_on_star)
        finally:
            if leg.call.status.is_final:
                record.leg_sid = ""
                self._board.save(record)
        return leg

    def new_leg(self, target: str, caller_id: str, timeout_s: int) -> PhoneRecord:
        """A record for a call to `target`; one that can't be placed has failed already."""
        mine = self._record.call
        own = mine.caller if mine.direction is Direction.INBOUND else mine.called
        leg = self._board.new_record(Direction.OUTBOUND_DIAL, caller_id or own, target)
        leg.call.parent_sid = mine.sid
        leg.timeout_s = timeout_s
        self._board.enter(leg)
        try:
            dial_target.party("<Dial>", target)
            self._board.guard.admit(leg.sid, target, leg.call.created_at)
        except CallRejected as error:
            self._board.progress(leg, CallStatus.FAILED, str(error))
        return leg

    async def ring(self, leg: PhoneRecord) -> bool:
        """Have the leg answered; whether it was."""
        if leg.call.status.is_final:
            return False
        caller = self._record.call.channel_id
        return await self._board.ring(leg, lambda: self._caller.gone, caller)

    async def talk(self, leg: PhoneRecord, limit_s: float, *, star: bool = False) -> None:
        """Join caller and leg until one of them is gone, the caller presses *, or time is over."""
        bridge = self._board.names.dial_bridge_id(leg.sid)
        channels = (self._record.call.channel_id, leg.call.channel_id)
        theirs = self._board.thing(leg)
        keys_before = self._caller.keys.count("*")

        def over() -> bool:
            pressed = star and self._caller.keys.count("*") > keys_before
            return theirs.gone or self._caller.gone or pressed

        try:
            await self._board.ari.create_bridge(bridge)
            await self._board.ari.add_to_bridge(bridge, *channels)
            await self._board.board.until(over, channels, limit_s)
        except (AriAbsent, ChannelNotInStasis) as error:
            log.info("not_joined", call_id=self._record.sid, reason=str(error))
        await self._board.drop_leg(leg)

    async def leave(self) -> None:
        """End all calls that belong to this caller."""
        record = self._record
        for sid in [record.leg_sid, record.consulted_sid, *record.parties]:
            leg = self._board.records.get(sid)
            if leg is not None and not leg.call.status.is_final:
                await self._board.drop_leg(leg)
        record.leg_sid, record.consulted_sid, record.parties = "", "", []
        self._board.save(record)

    async def _ring(self, leg: PhoneRecord, verb: vb.Dial) -> bool:
        """Ring, and let the caller hear that."""
        if leg.call.status.is_final:
            return False
        caller = self._record.call.channel_id
        await self._board.ari.switch(caller, "ring", on=True)
        try:
            answered = await self.ring(leg)
        finally:
            if not self._caller.gone:
                await self._quiet(caller)
        if answered and not self._caller.up:
            await self._board.ari.answer(caller)
            self._caller.up = True
            self._board.progress(self._record, CallStatus.IN_PROGRESS)
        return answered

    async def _quiet(self, caller: str) -> None:
        try:
            await self._board.ari.switch(caller, "ring", on=False)
        except (AriAbsent, ChannelNotInStasis) as error:
            log.debug("caller_left", call_id=self._record.sid, reason=str(error))
