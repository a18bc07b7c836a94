"""What all phone calls share: their records, and the means to carry them on.

It also places calls: whoever wants one gets it answered or over, with its status told on the way.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog
from msgspec import Struct

from supervisor.ari.calls import AriCalls, Originate
from supervisor.ari.events import AriError, AriTimeout, AriUnreachable
from supervisor.calls.names import CallNames, new_sid
from supervisor.phone import call_forms, phone_record
from supervisor.phone.allowed_hosts import AllowedHosts
from supervisor.phone.call_forms import progress_event, progress_form, status_after
from supervisor.phone.call_store import CallStore
from supervisor.phone.channel_board import ChannelBoard, Thing
from supervisor.phone.inbound_routes import Route
from supervisor.phone.notices import Notices
from supervisor.phone.phone_call import CallRejected, CallStatus, Direction, PhoneCall
from supervisor.phone.phone_record import Notice, PhoneRecord
from supervisor.phone.sounds import Sounds
from supervisor.phone.toll_guard import TollGuard, endpoint
from supervisor.phone.webhooks import Webhooks

log = structlog.get_logger()

ANSWER_SPARE_S: Final = 5.0
"""Asterisk ends an unanswered call itself; if it doesn't say so, we wait this much longer."""


class PhoneSettings(Struct, frozen=True):
    """What SIGHUP renews: routes by called number, whom webhooks go to, how they are signed.

    `history_s`: how long ended calls are kept.
    """

    routes: Mapping[str, Route]
    hosts: AllowedHosts
    account_sid: str
    auth_token: str
    history_s: float


class Lines(Struct, frozen=True):
    """What a switchboard works with."""

    ari: AriCalls
    names: CallNames
    store: CallStore
    webhooks: Webhooks
    sounds: Sounds
    guard: TollGuard
    endpoint: str
    can_record: bool


class Switchboard:
    """The records by CallSid, running and ended, and the channels that they have.

    `running` are those of calls that are not over. `ended` is set whenever a call has ended.
    """

    def __init__(self, settings: PhoneSettings, lines: Lines) -> None:
        self.settings = settings
        self.ari = lines.ari
        self.names = lines.names
        self.webhooks = lines.webhooks
        self.sounds = lines.sounds
        self.guard = lines.guard
        self.board = ChannelBoard()
        self.notices = Notices(lines.webhooks, self.save)
        self.records: dict[str, PhoneRecord] = {}
        self.running: dict[str, PhoneRecord] = {}
        self.ended = asyncio.Event()
        self._by_channel: dict[str, str] = {}
        self._store = lines.store
        self._lines = lines

    def renew(self, settings: PhoneSettings) -> None:
        """Go on with other settings; what has begun with the old ones stays."""
        self.settings = settings
        self.webhooks.renew(settings.hosts, settings.auth_token)

    def check_recording(self) -> None:
        """Raises CallRejected where nothing can be recorded."""
        if not self._lines.can_record:
            raise CallRejected(20001, 400, "recording is off: RECORDING_DIR is not set")

    def save(self, record: PhoneRecord) -> None:
        """Keep the record's state."""
        if record.sid in self.records:
            self._store.save(record.sid, record.call.ended_at, phone_record.encode(record))

    def forget(self, sid: str) -> None:
        """Forget an ended call."""
        record = self.records.pop(sid)
        self.running.pop(sid, None)
        self._by_channel.pop(record.call.channel_id, None)
        self._store.delete(sid)

    def thing(self, record: PhoneRecord) -> Thing:
        """The state of the call's channel."""
        return self.board.follow(record.call.channel_id)

    def find(self, channel_id: str) -> PhoneRecord | None:
        """The call that a channel belongs to, unless it is over."""
        record = self.records.get(self._by_channel.get(channel_id, ""))
        return record if record and not record.call.status.is_final else None

    def enter(self, record: PhoneRecord) -> None:
        """Take a new record in, and follow its channel."""
        self.records[record.sid] = self.running[record.sid] = record
        self.board.follow(record.call.channel_id)
        self._by_channel[record.call.channel_id] = record.sid
        self.save(record)

    def adopt(self, record: PhoneRecord) -> None:
        """Take in a record of an earlier supervisor, and deliver what it has waiting."""
        self.records[record.sid] = record
        self.notices.deliver(record)
        if not record.call.status.is_final:
            self.running[record.sid] = record
            self.board.follow(record.call.channel_id)
            self._by_channel[record.call.channel_id] = record.sid

    def new_record(self, direction: Direction, caller: str, called: str) -> PhoneRecord:
        """A record of a call that we shall place; `enter` it."""
        sid, now_s = new_sid("CA"), time.time()
        call = PhoneCall(
            sid=sid,
            account_sid=self.settings.account_sid,
            direction=direction,
            caller=caller,
            called=called,
            created_at=now_s,
            updated_at=now_s,
            channel_id=self.names.out_id(sid),
        )
        return PhoneRecord(call)

    def progress(self, record: PhoneRecord, status: CallStatus, reason: str = "") -> None:
        """Move a call on to a status, and tell who wants to know."""
        call = record.call
        if call.status.is_final:
            return
        status_after(call, status, time.time())
        call.reason = reason or call.reason
        log.info("phone_call", call_id=call.sid, status=status.value, reason=call.reason)
        if status.is_final:
            self.running.pop(call.sid, None)
            self.guard.ended(call.sid)
            self.board.drop(call.channel_id)
            self.ended.set()
        self.save(record)
        self.tell(record, progress_event(status))

    def tell(self, record: PhoneRecord, event: str) -> None:
        """Send a status callback, if the event is wanted."""
        callback = record.callback
        if callback is None or event not in callback.events:
            return
        form = progress_form(record.call, record.sequence, time.time())
        record.sequence += 1
        self.notices.add(record, Notice(callback.url, callback.method, form))

    async def answer(self, record: PhoneRecord) -> None:
        """Answer a call that isn't; it is in progress from then on."""
        thing = self.thing(record)
        if not thing.up:
            await self.ari.answer(record.call.channel_id)
            thing.up = True
        if record.call.status is not CallStatus.IN_PROGRESS and not thing.gone:
            self.progress(record, CallStatus.IN_PROGRESS)

    async def ring(self, record: PhoneRecord, caller_gone: Callable[[], bool], *also: str) -> bool:
        """Place the call, or go on with one that is placed already; whether it was answered.

        Its end is told as its status. It is given up when `caller_gone`, which is looked at when
        one of the things `also` changes.
        """
        call, thing = record.call, self.thing(record)
        if not await self._placed(record):
            return False

        def over() -> bool:
            return thing.gone or record.canceled or caller_gone()

        ids = (call.channel_id, *also)
        deadline = time.monotonic() + record.timeout_s + ANSWER_SPARE_S
        await self.board.until(lambda: over() or thing.ringing or thing.up, ids, record.timeout_s)
        if thing.ringing and not over() and call.status is CallStatus.QUEUED:
            self.progress(record, CallStatus.RINGING)
        left_s = max(0.0, deadline - time.monotonic())
        await self.board.until(lambda: over() or (thing.up and thing.entered), ids, left_s)
        if not over() and thing.up and thing.entered:
            self.progress(record, CallStatus.IN_PROGRESS)
            return True
        await self._give_up(record, thing)
        return False

    async def _placed(self, record: PhoneRecord) -> bool:
        """Have Asterisk place the call, once; whether it may ring now."""
        call = record.call
        if record.placed:  # by an earlier supervisor
            if await self.ari.get_channel(call.channel_id) is None:
                self.progress(record, CallStatus.FAILED, "it ended while nobody looked")
                return False
            return True
        record.placed = True
        self.save(record)
        channel = endpoint(self._lines.endpoint, call.called)
        order = Originate(call.channel_id, channel, call.caller, record.timeout_s)
        try:
            await self.ari.originate(order)
        except (AriUnreachable, AriTimeout) as error:
            log.warning("originate_unclear", call_id=call.sid, reason=str(error))
        except AriError as error:
            self.progress(record, CallStatus.FAILED, str(error))
            return False
        return True

    async def _give_up(self, record: PhoneRecord, thing: Thing) -> None:
        """Nobody answered: say why."""
        if not thing.gone:
            await self.drop_channel(record)
            ended = CallStatus.CANCELED if record.canceled else CallStatus.NO_ANSWER
            self.progress(record, ended)
            return
        timed_out = time.time() - record.call.created_at >= record.timeout_s
        ended = call_forms.outcome(thing.cause, answered=False, timed_out=timed_out)
        ended = CallStatus.CANCELED if record.canceled else ended
        self.progress(record, ended, f"cause {thing.cause}" if thing.cause else "")

    async def drop_channel(self, record: PhoneRecord) -> None:
        """Hang up; a channel that can't be hung up now is an orphan, and removed as such."""
        try:
            await self.ari.delete_channel(record.call.channel_id)
        except AriError as error:
            log.warning("not_hung_up", call_id=record.sid, reason=str(error))

    async def drop_leg(self, leg: PhoneRecord) -> None:
        """End a dialed call, and its bridge."""
        if not self.thing(leg).gone:
            await self.drop_channel(leg)
        try:
            await self.ari.delete_bridge(self.names.dial_bridge_id(leg.sid))
        except AriError as error:
            log.warning("bridge_left", call_id=leg.sid, reason=str(error))
        answered = leg.call.status is CallStatus.IN_PROGRESS
        self.progress(leg, CallStatus.COMPLETED if answered else CallStatus.CANCELED)

    async def settle_sounds(self) -> None:
        """Make up for missed ends of sounds."""
        for playback in self.board.sounds():
            if not await self.ari.is_playing(playback):
                self.board.end_sound(playback)

    async def close(self, seconds: float) -> None:
        """Deliver what can be delivered, and write the rest to disk."""
        await self.notices.close(seconds)
        await self._store.close()
        await self.webhooks.close()

    async def run(self) -> None:
        """Write records to disk as they change."""
        await self._store.run()
