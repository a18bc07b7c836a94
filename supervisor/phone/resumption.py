"""Goes on with the phone calls of an earlier supervisor, and makes up for what was missed."""

from collections.abc import Iterable

import msgspec
import structlog

from supervisor.ari.events import Bridge, Channel
from supervisor.phone import phone_record
from supervisor.phone.orders import CallOrders
from supervisor.phone.phone_call import CallStatus, Direction
from supervisor.phone.phone_record import PhoneRecord
from supervisor.phone.runs import CallRuns
from supervisor.phone.switchboard import Switchboard

log = structlog.get_logger()


class Resumption:
    """`load` at the start; `settle` whenever Asterisk was asked what it has."""

    def __init__(self, switchboard: Switchboard, runs: CallRuns, orders: CallOrders) -> None:
        self._board = switchboard
        self._runs = runs
        self._orders = orders
        self._waiting: set[str] = set()

    def load(self, states: Iterable[bytes]) -> None:
        """Take over the calls of an earlier supervisor; `settle` goes on with those that are up."""
        for state in states:
            try:
                record = phone_record.decode(state)
            except msgspec.DecodeError as error:
                log.error("call_not_loaded", reason=str(error))
                continue
            self._board.adopt(record)
            if not record.call.status.is_final:
                self._waiting.add(record.sid)
                if record.placed:
                    begun_s = record.call.created_at
                    self._board.guard.adopt(record.sid, record.call.called, begun_s)

    def seen(self) -> set[str]:
        """The channels that exist, as far as we know: ask this before Asterisk."""
        loaded = (self._board.records[sid] for sid in self._waiting)
        channels = {
            record.call.channel_id
            for record in loaded
            if record.placed or record.call.direction is Direction.INBOUND
        }
        return self._board.board.seen() | channels

    async def settle(
        self, channels: Iterable[Channel], bridges: Iterable[Bridge], seen: set[str]
    ) -> None:
        """Make up for missed events, remove what belongs to no call, go on with loaded calls.

        Raises:
            AriError: something could not be removed; it is tried at the next time.
        """
        names = self._board.names
        channels = list(channels)
        self._board.board.settle(channels, names.app, seen)
        for channel in channels:
            if self._is_orphan(names.call_of_out(channel.id)):
                log.warning("orphan_removed", channel=channel.id)
                await self._board.ari.delete_channel(channel.id)
        for bridge in bridges:
            if self._is_orphan(names.call_of_dial_bridge(bridge.id)):
                log.warning("orphan_removed", bridge=bridge.id)
                await self._board.ari.delete_bridge(bridge.id)
        await self._board.settle_sounds()
        waiting, self._waiting = self._waiting, set()
        for sid in waiting:
            record = self._board.records[sid]
            log.info("call_resumed", call_id=sid, verb=type(record.verb).__name__)
            self._resume_one(record)

    def _is_orphan(self, sid: str) -> bool:
        owner = self._board.records.get(sid)
        return bool(sid) and (owner is None or owner.call.status.is_final)

    def _resume_one(self, record: PhoneRecord) -> None:
        call = record.call
        if call.direction is Direction.OUTBOUND_DIAL:
            self._resume_leg(record)
        elif call.direction is Direction.INBOUND or call.status is CallStatus.IN_PROGRESS:
            self._runs.start(record)
        else:
            self._runs.place(record, 0.0)

    def _resume_leg(self, leg: PhoneRecord) -> None:
        """A dialed call: its caller's script goes on with it, or an order does."""
        parent = self._board.records.get(leg.call.parent_sid)
        if parent is None or parent.call.status.is_final:
            self._runs.hold(self._board.drop_leg(leg))
        elif parent.consulted_sid == leg.sid:
            self._runs.hold(self._orders.consultation(parent, leg))
        elif leg.sid in parent.parties:
            self._runs.hold(self._orders.party(parent, leg, instead=False))
