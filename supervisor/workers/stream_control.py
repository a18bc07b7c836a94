"""Which worker serves which call: at its start, when a worker dies, and when one is replaced.

A call's RTP socket is held here too, so it can be given to any worker at any time.
"""

import random
import socket
import time
from collections import Counter
from collections.abc import Callable

import msgspec
import structlog

from shim import control
from shim.control import (
    CallFigures,
    CallQuality,
    CallSpec,
    CallStats,
    ControlError,
    FromWorker,
    StartCall,
)
from supervisor.calls import events as ev
from supervisor.calls.events import Event
from supervisor.calls.measures import StreamMeasures
from supervisor.calls.names import new_sid
from supervisor.calls.state import Call, Phase, Presence, adopted_call
from supervisor.calls.table import CallTable
from supervisor.traces.setup_traces import STREAM, SetupTraces
from supervisor.workers.admission import FD_RESERVE, Limits, why_full
from supervisor.workers.media_ports import MediaPorts, NoPortError
from supervisor.workers.placement import Load, rank
from supervisor.workers.pool import WorkerPool

log = structlog.get_logger()


class StreamSettings(msgspec.Struct, frozen=True):
    """What new streams are made with, and how many calls there may be; `record`: record all."""

    url: str
    fallback_url: str
    account_sid: str
    custom_parameters: dict[str, str]
    share_numbers: bool
    limits: Limits
    record: bool = False


class StreamControl:
    """Hands calls to workers, and tells the call table (by `happen`) what workers say of them.

    `draining`: no new calls are taken. `figures` are what workers last told of their calls, by
    call_sid.
    """

    def __init__(
        self,
        settings: StreamSettings,
        table: CallTable,
        ports: MediaPorts,
        happen: Callable[[Event], None],
    ) -> None:
        self.settings = settings
        self._table = table
        self._ports = ports
        self._happen = happen
        self._specs: dict[str, CallSpec] = {}
        self._homeless: set[str] = set()  # their worker is dead, and no other was there
        self._releasing: dict[str, int] = {}  # under way from a worker to its successor
        self.pool: WorkerPool
        self.traces: SetupTraces | None = None
        self.draining = False
        self.measures = StreamMeasures()
        self.figures: dict[str, CallFigures] = {}

    # What the call table wants

    def place(self, call: Call) -> None:
        """Find a worker with a free port for a new call, and bind the port."""
        sid = call.call_sid
        if self.traces:
            self.traces.begin(call)
        try:
            others = len(self._table.calls) - 1
            limits = self.settings.limits
            if full := why_full(limits, others, draining=self.draining):
                raise NoPortError(full.text, full.kind)
            worker, port = self._ports.take(self._with_room(), sid)
        except NoPortError as error:
            log.warning("call_refused", call_id=sid, reason=str(error))
            self.measures.refused[error.kind] += 1
            self._happen(ev.PlacementFailed(sid, f"refused: {error}"))
            return
        self._specs[sid] = self._specify(call, port)
        log.info("call_placed", call_id=sid, worker=worker, port=port)
        self._happen(ev.Placed(sid, worker, port))

    def open(self, call: Call) -> None:
        """Hand a new call to its worker."""
        if self.traces:
            self.traces.step_began(call.call_sid, STREAM, time.monotonic_ns())
        self._hand_over(call, StartCall(self._specs[call.call_sid]))

    def stream_sid(self, call_sid: str) -> str:
        """The StreamSid of a call that has a stream; "" for others."""
        spec = self._specs.get(call_sid)
        return spec.stream_sid if spec else ""

    def connect_media(self, call: Call, peer: tuple[str, int]) -> None:
        """Asterisk has named its media address: from now on only it can reach the call's port."""
        self._ports.connect(call.call_sid, peer)
        self.pool.send(call.worker, control.MediaConnected(call.call_sid))

    def press_digit(self, call: Call, digit: str) -> None:
        """The caller pressed a key."""
        self.pool.send(call.worker, control.PressDigit(call.call_sid, digit))

    def record(self, call: Call, *, wanted: bool) -> None:
        """Start or stop to record a call, at its worker and at those that take it later."""
        sid = call.call_sid
        self._specs[sid] = msgspec.structs.replace(self._specs[sid], record=wanted)
        message = control.StartRecording(sid) if wanted else control.StopRecording(sid)
        self.pool.send(call.worker, message)

    def move(self, call: Call) -> None:
        """Give a call whose worker is dead to another; if there is none, to the next that comes."""
        order = rank(self._loads())
        if not order:
            self._homeless.add(call.call_sid)
            return
        self._homeless.discard(call.call_sid)
        log.warning("call_moved", call_id=call.call_sid, worker=order[0], from_worker=call.worker)
        self._happen(ev.StreamMoved(call.call_sid, order[0]))
        self.measures.moved["worker_lost"] += 1
        self._resume(call)

    def close(self, call: Call, reason: str) -> None:
        """The call is over."""
        if call.call_sid in self._homeless:
            self._homeless.discard(call.call_sid)
            self._close_as_last_told(call.call_sid)
        elif call.call_sid not in self._releasing:  # else its end follows when it is let go
            self.pool.send(call.worker, control.EndCall(call.call_sid, reason))

    def forget(self, call_sid: str) -> None:
        """Nothing of the call is left: its port may rest."""
        self._specs.pop(call_sid, None)
        self.figures.pop(call_sid, None)
        self._homeless.discard(call_sid)
        self._ports.release(call_sid)
        if (worker := self._releasing.pop(call_sid, None)) is not None:
            self._dismiss_if_done(worker)

    # What workers say

    def on_worker_ready(self, worker: int) -> None:
        """A worker can take calls: first those that have lost theirs."""
        for call_sid in list(self._homeless):
            if call_sid in self._homeless:  # the worker may die again while it gets them
                self.move(self._table.calls[call_sid])

    def on_worker_lost(self, worker: int) -> None:
        """A worker is dead: its calls go to others."""
        for call in self._calls_of(worker):
            if call.call_sid not in self._releasing and call.call_sid not in self._homeless:
                self._happen(ev.StreamLost(call.call_sid))

    def on_worker_replaced(self, worker: int) -> None:
        """A new worker has the slot: each call is let go by the old one, then taken by the new."""
        calls = [call.call_sid for call in self._calls_of(worker)]
        self._releasing |= dict.fromkeys(calls, worker)
        for call_sid in calls:
            self.pool.send_to_leaving(worker, control.ReleaseCall(call_sid))
        self._dismiss_if_done(worker)

    def on_worker_dismissed(self, worker: int) -> None:
        """The old worker is gone; if it died with calls, the new one takes those too."""
        for call_sid in [sid for sid, at in self._releasing.items() if at == worker]:
            self._released(call_sid)

    def on_worker_message(
        self, worker: int, message: FromWorker, passed: socket.socket | None
    ) -> None:
        """A worker reports on one of its calls."""
        if isinstance(message, control.HeldCall):
            self._adopt(worker, message, passed)
            return
        if passed is not None:
            passed.close()
        match message:
            case control.StreamStarted(call_sid=sid, connect_ms=took_ms):
                log.info("stream_started", call_id=sid, worker=worker, connect_ms=round(took_ms))
                self._note_connect(worker, sid, took_ms)
                self._happen(ev.StreamStarted(sid))
            case control.StreamEnded(call_sid=sid, reason=reason, failed=failed):
                self._happen(ev.StreamEnded(sid, reason, failed))
            case control.CallClosed(call_sid=sid, stats=stats, quality=quality):
                self._happen(ev.StreamClosed(sid, stats, quality))
            case control.CallsNow(calls=calls):
                self._note(calls)
            case control.CallReleased(call_sid=sid, stats=stats, quality=quality):
                self._note([CallFigures(sid, stats, quality or CallQuality())])
                self._released(sid)
            case control.CallRefused(call_sid=sid, reason=reason):
                log.error("call_refused_by_worker", call_id=sid, worker=worker, reason=reason)
                self._close_as_last_told(sid)
            case control.SendDigits(call_sid=sid, digits=digits):
                self._happen(ev.DigitsWanted(sid, digits))
            case _:
                log.error("worker_message_unexpected", kind=type(message).__name__, worker=worker)

    def limits(self) -> dict[str, int]:
        """So many calls at once each limit allows, as things stand."""
        limits, slots = self.settings.limits, self.pool.slots
        up = [slot for slot in slots if slot.takes_calls]
        found = {
            "asterisk_ports": limits.asterisk_calls,
            "descriptors": min(limits.fds - FD_RESERVE, limits.worker_calls * len(up)),
            "rtp_ports": sum(len(self._ports.table.slice(slot.index)) for slot in up),
        }
        return found | ({"max_calls": limits.max_calls} if limits.max_calls else {})

    # Inside

    def _note(self, calls: list[CallFigures]) -> None:
        self.figures |= {now.call_sid: now for now in calls if now.call_sid in self._specs}

    def _note_connect(self, worker: int, call_sid: str, took_ms: float) -> None:
        self.measures.connect[worker].add(took_ms)
        if self.traces:
            self.traces.step_ended(call_sid, STREAM, time.monotonic_ns())
        call = self._table.calls.get(call_sid)
        if call is not None and call.stream is Presence.REQUESTED:
            self.measures.setups.add(took_ms)

    def _loads(self) -> list[Load]:
        """The workers that are alive, as candidates for a call."""
        calls = Counter(call.worker for call in self._table.calls.values())
        return [
            Load(
                worker=slot.index,
                calls=calls[slot.index],
                free_ports=self._ports.table.counts(slot.index)["free"],
                overloaded=slot.overloaded,
            )
            for slot in self.pool.slots
            if slot.takes_calls
        ]

    def _with_room(self) -> list[int]:
        """The workers that can take a new call without hurting those that they have."""
        most = self.settings.limits.worker_calls
        loads = [load for load in self._loads() if load.calls < most and not load.overloaded]
        if not loads:
            raise NoPortError(
                "no worker has room: all are late, out of descriptors, or down", "no_worker"
            )
        return rank(loads)

    def _calls_of(self, worker: int) -> list[Call]:
        return [call for call in self._table.calls.values() if call.worker == worker]

    def _specify(self, call: Call, port: int) -> CallSpec:
        parameters = {"channelId": call.channel_id, **self.settings.custom_parameters}
        if self.settings.share_numbers:
            parameters |= {"from": call.caller_number, "to": call.called_number}
        if call.target is not None:
            parameters |= call.target.parameters
        return CallSpec(
            call_sid=call.call_sid,
            stream_sid=new_sid("MZ"),
            account_sid=self.settings.account_sid,
            channel_id=call.channel_id,
            port=port,
            url=call.target.url if call.target else self.settings.url,
            fallback_url="" if call.target else self.settings.fallback_url,
            scripted=call.target is not None,
            epoch_ns=time.monotonic_ns(),
            # RFC 3550 section 5.1: all three are random, so that streams can't be confused.
            ssrc=random.getrandbits(32),
            first_sequence=random.getrandbits(16),
            first_timestamp=random.getrandbits(32),
            custom_parameters=parameters,
            record=self.settings.record,
            traceparent=self.traces.traceparent(call.call_sid) if self.traces else "",
        )

    def _resume(self, call: Call) -> None:
        """Let the call's worker continue the stream that another one has begun."""
        told = self.figures.get(call.call_sid, CallFigures(call.call_sid))
        start = StartCall(
            self._specs[call.call_sid],
            resumed=True,
            media_connected=call.media_connected,
            stats=told.stats,
            quality=told.quality,
        )
        self._hand_over(call, start)

    def _hand_over(self, call: Call, start: StartCall) -> None:
        """Send a call to its worker; one that can't be sent (no descriptor, too large) is over."""
        try:
            self.pool.send(call.worker, start, self._ports.socket_of(call.call_sid))
        except (OSError, ControlError) as error:
            log.error("call_not_handed_over", call_id=call.call_sid, reason=str(error))
            self._close_as_last_told(call.call_sid)

    def _close_as_last_told(self, call_sid: str) -> None:
        """No worker has the call any more that could say how it was: the last word counts."""
        told = self.figures.get(call_sid)
        stats, quality = (told.stats, told.quality) if told else (CallStats(), None)
        self._happen(ev.StreamClosed(call_sid, stats, quality))

    def _released(self, call_sid: str) -> None:
        """The old worker sends nothing more for the call: on to the new one, if it still lives."""
        worker = self._releasing.pop(call_sid, None)
        call = self._table.calls.get(call_sid)
        if worker is None or call is None:
            return
        if call.phase is Phase.ENDING:
            self._close_as_last_told(call_sid)
        elif self.pool.slots[worker].takes_calls:
            self.measures.moved["worker_replaced"] += 1
            self._resume(call)
        else:
            self._happen(ev.StreamLost(call_sid))
        self._dismiss_if_done(worker)

    def _dismiss_if_done(self, worker: int) -> None:
        if worker not in self._releasing.values():
            self.pool.dismiss(worker)

    def _adopt(self, worker: int, held: control.HeldCall, rtp: socket.socket | None) -> None:
        """Take over a call that a worker has from an earlier supervisor.

        One whose set-up was interrupted is given up; its caller, who waits in the app, is found
        there and served anew.
        """
        sid = held.call.call_sid
        if rtp is None or not held.connected:
            log.warning("call_not_adopted", call_id=sid, worker=worker)
            self.pool.send(worker, control.EndCall(sid, "set-up was interrupted"))
            if rtp is not None:
                rtp.close()
            return
        log.info("call_adopted", call_id=sid, worker=worker, port=held.call.port)
        self._ports.adopt(sid, held.call.port, worker, rtp)
        self._specs[sid] = held.call
        self.measures.moved["supervisor_restarted"] += 1
        self._table.adopt(adopted_call(held.call, worker, time.monotonic_ns()))
