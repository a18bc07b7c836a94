"""Follows a call's script, one verb after the other.

Each verb is a coroutine that returns when it is over, or the caller is gone. What a verb has begun
outside (a stream, a dialed call, a sound) is in the call's record, so that `leave` can end it, and
a new supervisor can go on with it.
"""

import time
from typing import Final
from urllib.parse import urljoin

import structlog

from supervisor.ari.events import AriAbsent, AriError, ChannelNotInStasis
from supervisor.ari.rest import HangupReason
from supervisor.calls import events as ev
from supervisor.calls.control import CallControl
from supervisor.calls.state import OnEnd, Target
from supervisor.phone import verbs as vb
from supervisor.phone.call_forms import call_form, dial_form, stream_form
from supervisor.phone.dialing import Dialing
from supervisor.phone.phone_call import CallStatus, Direction, Script
from supervisor.phone.phone_record import Notice, PhoneRecord
from supervisor.phone.sounds import SoundError
from supervisor.phone.switchboard import Switchboard
from supervisor.phone.twiml import TwimlError, parse
from supervisor.phone.webhooks import WebhookError

log = structlog.get_logger()

MOST_REDIRECTS: Final = 50
"""Documents that one call may follow without having waited for anything: more is a loop."""
WAITING_VERBS: Final = (vb.Connect, vb.Dial, vb.Pause, vb.Play, vb.Say, vb.Bridged)
DIGIT_PAUSE_S: Final = 0.5
"""Twilio: `w` in digits waits for half a second."""


class ScriptFailed(Exception):
    """No usable TwiML could be had; the text says why."""


class ScriptRun:
    """One call's way through its verbs. `follow` it in a task; cancel that, then `leave`."""

    def __init__(self, record: PhoneRecord, switchboard: Switchboard, control: CallControl) -> None:
        self.record = record
        self._board = switchboard
        self._control = control
        self._thing = switchboard.thing(record)
        self._dialing = Dialing(record, switchboard)
        self._documents = 0

    async def follow(self) -> None:
        """Do what the script says, then hang up."""
        record = self.record
        try:
            if not record.verbs and record.script is not None:
                await self._open(record.script)
            while not self._thing.gone and (verb := record.verb) is not None:
                await self._do(verb)
        except ScriptFailed as error:
            log.error("script_failed", call_id=record.sid, reason=str(error))
            record.call.reason = str(error)
            await self._fall_back()
        except AriError as error:
            log.error("verb_failed", call_id=record.sid, reason=str(error))
            record.call.reason = str(error)
            await self._fall_back()
        if not self._thing.gone:
            await self._board.drop_channel(record)

    async def leave(self) -> None:
        """End what the current verb has begun; the caller stays in the app."""
        record = self.record
        await self.leave_stream("another order")
        await self._dialing.leave()
        if record.playbacks:
            playback = self._board.names.playback_id(record.sid, record.playbacks)
            if playback in self._board.board.things:
                await self._board.ari.stop_playback(playback)
                self._board.board.drop(playback)

    async def leave_stream(self, reason: str) -> None:
        """End the call's stream, if it has one, and keep the caller."""
        self._control.end(self.record.sid, reason, OnEnd.KEEP)
        await self._stream_over()

    # Documents

    async def _open(self, script: Script) -> None:
        """Read a script, or its fallback, into the record."""
        record = self.record
        self._documents += 1
        if self._documents > MOST_REDIRECTS:
            raise ScriptFailed(f"more than {MOST_REDIRECTS} documents without a wait")
        try:
            document = script.twiml.encode() or await self._ask(script.url, script.method)
            verbs, base = parse(document), script.url
        except (WebhookError, TwimlError) as error:
            if not script.fallback_url:
                raise ScriptFailed(str(error)) from error
            log.warning("script_fallback", call_id=record.sid, reason=str(error))
            await self._open(Script(url=script.fallback_url, method=script.fallback_method))
            return
        record.script, record.verbs, record.at, record.base_url = script, verbs, 0, base
        self._board.save(record)

    async def _ask(self, url: str, method: str, **more: str) -> bytes:
        return await self._board.webhooks.ask(url, method, call_form(self.record.call) | more)

    async def _fall_back(self) -> None:
        """Without a script an inbound caller goes on in the dialplan; nobody else can."""
        if self.record.call.direction is Direction.INBOUND and not self._thing.gone:
            await self.leave()
            await self._to_dialplan(None)

    # Verbs

    async def _do(self, verb: vb.Verb) -> None:  # noqa: C901 - one case per verb
        if isinstance(verb, WAITING_VERBS):
            self._documents = 0
            await self._answer(verb)
        match verb:
            case vb.Say():
                await self._say(verb)
            case vb.Play():
                await self._play(verb)
            case vb.Pause(length_s=seconds):
                await self._pause(seconds)
            case vb.Connect():
                return await self._connect(verb)
            case vb.Dial():
                return await self._dial(verb)
            case vb.Bridged(sid=sid):
                await self._dialing.talk(self._board.records[sid], vb.MAX_SECONDS)
            case vb.Redirect(url=url, method=method):
                url = urljoin(self.record.base_url, url)
                if not url:
                    raise ScriptFailed("<Redirect> has no URL, needed is http(s)://host/...")
                return await self._open(Script(url=url, method=method))
            case vb.Hangup():
                await self._board.drop_channel(self.record)
                return self._end()
            case vb.Reject(reason=reason):
                return await self._reject(reason)
            case vb.ToDialplan(context=context, extension=extension, priority=priority):
                await self._to_dialplan((context, extension, priority))
        return self._next()

    def _next(self) -> None:
        self.record.at += 1
        self._board.save(self.record)

    def _end(self) -> None:
        self.record.at = len(self.record.verbs)

    async def _answer(self, verb: vb.Verb) -> None:
        """The first verb that needs the caller's ear answers the call."""
        if isinstance(verb, vb.Dial) and verb.answer_on_bridge:
            return
        await self._board.answer(self.record)

    async def _pause(self, seconds: float) -> None:
        thing = self._thing
        await self._board.board.until(lambda: thing.gone, (self.record.call.channel_id,), seconds)

    async def _say(self, verb: vb.Say) -> None:
        if not self._board.sounds.can_speak:
            log.warning("say_skipped", call_id=self.record.sid, reason="SAY_COMMAND isn't set")
            return
        try:
            await self._repeat(await self._board.sounds.speak(verb.text), verb.loop)
        except SoundError as error:
            log.warning("say_skipped", call_id=self.record.sid, reason=str(error))

    async def _play(self, verb: vb.Play) -> None:
        if verb.digits:
            for _ in range(max(1, verb.loop)):
                await self.send_digits(verb.digits)
            return
        source = urljoin(self.record.base_url, verb.source)
        try:
            await self._repeat(await self._board.sounds.fetch(source), verb.loop)
        except SoundError as error:
            raise ScriptFailed(f"<Play>: {error}") from error

    async def _repeat(self, media: str, loop: int) -> None:
        """Play a sound so often; 0: until the caller is gone."""
        board, record, count = self._board.board, self.record, 0
        while not self._thing.gone and (loop == 0 or count < loop):
            count += 1
            record.playbacks += 1
            playback = self._board.names.playback_id(record.sid, record.playbacks)
            sound = board.follow_sound(playback)
            try:
                await self._board.ari.play(record.call.channel_id, playback, media)
            except (AriAbsent, ChannelNotInStasis):
                board.drop(playback)
                return  # the caller has left
            ids = (playback, record.call.channel_id)
            await board.until(lambda: sound.gone or self._thing.gone, ids)  # noqa: B023
            board.drop(playback)

    async def send_digits(self, digits: str) -> None:
        """Send DTMF to the caller; `w` waits."""
        for part in digits.replace("w", " w ").split():
            if part == "w":
                await self._pause(DIGIT_PAUSE_S)
            elif not self._thing.gone:
                await self._board.ari.send_dtmf(self.record.call.channel_id, part)

    async def _reject(self, reason: str) -> None:
        busy: HangupReason = "busy" if reason == "busy" else "rejected"
        status = CallStatus.BUSY if reason == "busy" else CallStatus.FAILED
        if not self._thing.up:
            self._board.progress(self.record, status, f"rejected: {reason}")
        await self._board.ari.delete_channel(self.record.call.channel_id, busy)
        self._thing.gone = True

    async def _to_dialplan(self, place: tuple[str, str, int] | None) -> None:
        try:
            await self._board.ari.continue_in_dialplan(self.record.call.channel_id, place)
        except (AriAbsent, ChannelNotInStasis) as error:
            log.info("caller_left", call_id=self.record.sid, reason=str(error))
        self._thing.gone = True

    # Streams

    async def _connect(self, verb: vb.Connect) -> None:
        """Stream until that is over; without a `url` the operator's rules say what follows."""
        record = self.record
        if not self.has_stream:
            await self._stream_over()
            self.enter_stream(verb)
        began_s = time.time()
        stream_sid = self._control.streams.stream_sid(record.sid)
        self._tell_stream(verb, "stream-started", stream_sid)
        await self._stream_over()
        self._tell_stream(verb, "stream-stopped", stream_sid)
        log.info("stream_left", call_id=record.sid, seconds=round(time.time() - began_s, 1))
        if self._thing.gone:
            return None
        if not verb.url:
            # The rules have taken the caller, or an order has kept him: see `PhoneCalls.direct`.
            await self._board.board.until(lambda: self._thing.gone, (record.call.channel_id,))
            return None
        if verb.action:
            return await self._action(verb.action, verb.method, {"StreamSid": stream_sid})
        return self._next()

    @property
    def has_stream(self) -> bool:
        """Whether the call has a stream that isn't ending."""
        return self._control.has_stream(self.record.sid)

    def enter_stream(self, verb: vb.Connect) -> None:
        """Ask the call table for the stream."""
        call = self.record.call
        target = Target(verb.url, verb.parameters) if verb.url else None
        self._control.happen(
            ev.CallerEntered(call.channel_id, call.caller, call.called, call.sid, target)
        )
        if self.record.recorded is not None:
            self._control.record(call.sid, wanted=self.record.recorded)

    async def _stream_over(self) -> None:
        sid = self.record.sid
        await self._board.board.until(lambda: not self._control.knows(sid), (sid,))

    def _tell_stream(self, verb: vb.Connect, event: str, stream_sid: str) -> None:
        if verb.status_callback:
            stream = {"StreamSid": stream_sid, "StreamName": verb.name or stream_sid}
            form = stream_form(self.record.call, event, stream, time.time())
            url = urljoin(self.record.base_url, verb.status_callback)
            notice = Notice(url, verb.status_callback_method, form)
            self._board.notices.add(self.record, notice)

    # Dialed calls

    async def _dial(self, verb: vb.Dial) -> None:
        leg = await self._dialing.dial(verb)
        if self._thing.gone:
            return None
        if verb.action:
            return await self._action(
                verb.action, verb.method, dial_form(self.record.call, leg.call)
            )
        return self._next()

    async def _action(self, action: str, method: str, form: dict[str, str]) -> None:
        """The rest of the script comes from a verb's `action`."""
        url = urljoin(self.record.base_url, action)
        try:
            document = await self._board.webhooks.ask(url, method, form)
            verbs = parse(document)
        except (WebhookError, TwimlError) as error:
            raise ScriptFailed(f"action: {error}") from error
        record = self.record
        record.verbs, record.at, record.base_url = verbs, 0, url
        self._board.save(record)
