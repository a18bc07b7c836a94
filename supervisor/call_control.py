"""Carries out what the call table decides: at Asterisk, at the workers, on the RTP sockets.

Each command becomes one request or message; what came of it goes back to the table as an event.
"""

import asyncio
import random
import socket
import time
from collections import Counter
from collections.abc import Awaitable

import msgspec
import structlog

from shim import control
from shim.control import CallSpec, FromWorker, StartCall
from supervisor import call_events as ev
from supervisor.ari_events import AriAbsent, AriError, ChannelNotInStasis, media_address
from supervisor.ari_rest import AriRest
from supervisor.call_events import Command, Event
from supervisor.call_names import CallNames, new_sid
from supervisor.call_state import Call, Leg, OnEnd, Part
from supervisor.call_table import CallTable
from supervisor.media_ports import MediaPorts, NoPortError
from supervisor.placement import Load, rank
from supervisor.worker_pool import WorkerPool

log = structlog.get_logger()


class ControlSettings(msgspec.Struct, frozen=True):
    """What new calls are made with. `max_calls` 0: as many as there are ports."""

    media_host: str
    stream_url: str
    account_sid: str
    custom_parameters: dict[str, str]
    share_numbers: bool
    max_calls: int


class CallControl:
    """Joins call table, ports, workers and ARI.

    `draining`: no new calls are taken. `idle` is set while there are no calls. `outcomes` counts
    ended calls: "up" if audio flowed, else "failed".
    """

    def __init__(
        self,
        settings: ControlSettings,
        table: CallTable,
        ports: MediaPorts,
        ari: AriRest,
        names: CallNames,
    ) -> None:
        self._settings = settings
        self._table = table
        self._ports = ports
        self._ari = ari
        self._names = names
        self._specs: dict[str, CallSpec] = {}
        self._homeless: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.pool: WorkerPool
        self.draining = False
        self.idle = asyncio.Event()
        self.idle.set()
        self.outcomes: Counter[str] = Counter()

    def happen(self, event: Event) -> None:
        """Something happened: let the table decide, and do what it says."""
        self._carry_out(self._table.handle(event, time.monotonic_ns()))

    def expire(self) -> None:
        """Do what is due by time."""
        self._carry_out(self._table.expire(time.monotonic_ns()))

    def end_all(self, reason: str) -> None:
        """End all calls; the callers go on in the dialplan."""
        for call_sid in list(self._table.calls):
            now_ns = time.monotonic_ns()
            self._carry_out(self._table.end(call_sid, reason, OnEnd.CONTINUE, now_ns))

    async def finish(self) -> None:
        """Wait for the requests that are under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    # What workers say

    def on_worker_ready(self, worker: int) -> None:
        """A worker can take calls: first those that have lost theirs."""
        homeless, self._homeless = self._homeless, set()
        for call_sid in homeless:
            self._move(call_sid)

    def on_worker_lost(self, worker: int) -> None:
        """A worker is dead: its calls go to others."""
        for call in list(self._table.calls.values()):
            if call.worker == worker:
                self.happen(ev.StreamLost(call.call_sid))

    def on_worker_message(
        self, worker: int, message: FromWorker, passed: socket.socket | None
    ) -> None:
        """A worker reports on one of its calls."""
        match message:
            case control.StreamStarted(call_sid=sid, connect_ms=took_ms):
                log.info("stream_started", call_id=sid, worker=worker, connect_ms=round(took_ms))
                self.happen(ev.StreamStarted(sid))
            case control.StreamEnded(call_sid=sid, reason=reason, failed=failed):
                self.happen(ev.StreamEnded(sid, reason, failed))
            case control.CallClosed(call_sid=sid, stats=stats):
                self.happen(ev.StreamClosed(sid, stats))
            case control.CallRefused(call_sid=sid, reason=reason):
                log.error("call_refused_by_worker", call_id=sid, worker=worker, reason=reason)
                self.happen(ev.StreamClosed(sid, control.CallStats()))
            case control.SendDigits(call_sid=sid, digits=digits):
                if call := self._table.calls.get(sid):
                    self._spawn(self._send_digits(call, digits))
            case _:
                log.error("worker_message_unexpected", kind=type(message).__name__, worker=worker)
        if passed is not None:
            passed.close()

    # Commands

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, ev.Forget):
                self._forget(command.call)
            else:
                self._do(command, self._table.calls[command.call_sid])

    def _do(self, command: Command, call: Call) -> None:  # noqa: C901 - one case per command
        sid = call.call_sid
        match command:
            case ev.Place():
                self._place(call)
            case ev.CreateBridge():
                creation = self._ari.create_bridge(self._names.bridge_id(sid))
                self._spawn(self._step(sid, Part.BRIDGE, creation, ev.BridgeCreated(sid)))
            case ev.CreateMediaLeg():
                creating = self._create_media_leg(call)
                self._spawn(self._step(sid, Part.MEDIA, creating, ev.MediaLegCreated(sid)))
            case ev.OpenStream():
                start = StartCall(self._specs[sid])
                self.pool.send(call.worker, start, self._ports.socket_of(sid))
            case ev.MoveStream():
                self._move(sid)
            case ev.Join(leg=leg):
                channel = call.channel_id if leg is Leg.CALLER else self._names.media_id(sid)
                joining = self._ari.add_to_bridge(self._names.bridge_id(sid), channel)
                self._spawn(self._step(sid, f"join {leg}", joining, ev.Joined(sid, leg)))
            case ev.PressDigit(digit=digit):
                self.pool.send(call.worker, control.PressDigit(sid, digit))
            case ev.CloseStream(reason=reason):
                self.pool.send(call.worker, control.EndCall(sid, reason))
            case ev.RemovePart(part=part):
                self._spawn(self._remove(call, part))
            case ev.ContinueCaller():
                leaving = self._ari.continue_in_dialplan(call.channel_id)
                self._spawn(self._removal(sid, Part.CALLER, leaving))

    def _place(self, call: Call) -> None:
        sid = call.call_sid
        self.idle.clear()
        try:
            if reason := self._why_full():
                raise NoPortError(reason)
            worker, port = self._ports.take(rank(self._loads()), sid)
        except NoPortError as error:
            log.warning("call_refused", call_id=sid, reason=str(error))
            self.happen(ev.PlacementFailed(sid, f"refused: {error}"))
            return
        self._specs[sid] = self._specify(call, port)
        log.info("call_placed", call_id=sid, worker=worker, port=port)
        self.happen(ev.Placed(sid, worker, port))

    def _why_full(self) -> str:
        """Why no call can be taken now; empty if one can."""
        if self.draining:
            return "draining"
        if 0 < self._settings.max_calls < len(self._table.calls):
            return f"MAX_CALLS is {self._settings.max_calls}"
        return ""

    def _loads(self) -> list[Load]:
        calls = Counter(call.worker for call in self._table.calls.values())
        return [
            Load(slot.index, calls[slot.index], self._ports.table.counts(slot.index)["free"])
            for slot in self.pool.slots
            if slot.channel is not None
        ]

    def _specify(self, call: Call, port: int) -> CallSpec:
        parameters = {"channelId": call.channel_id, **self._settings.custom_parameters}
        if self._settings.share_numbers:
            parameters |= {"from": call.caller_number, "to": call.called_number}
        return CallSpec(
            call_sid=call.call_sid,
            stream_sid=new_sid("MZ"),
            account_sid=self._settings.account_sid,
            channel_id=call.channel_id,
            port=port,
            url=self._settings.stream_url,
            epoch_ns=time.monotonic_ns(),
            # RFC 3550 section 5.1: all three are random, so that streams can't be confused.
            ssrc=random.getrandbits(32),
            first_sequence=random.getrandbits(16),
            first_timestamp=random.getrandbits(32),
            custom_parameters=parameters,
        )

    def _move(self, call_sid: str) -> None:
        """Give a call to another worker; if none can take it now, to the next that comes up."""
        call = self._table.calls.get(call_sid)
        sock = self._ports.socket_of(call_sid)
        if call is None or sock is None:
            return
        order = rank(self._loads())
        if not order:
            self._homeless.add(call_sid)
            return
        worker = order[0]
        log.warning("call_moved", call_id=call_sid, worker=worker, from_worker=call.worker)
        self.happen(ev.StreamMoved(call_sid, worker))
        self.pool.send(worker, StartCall(self._specs[call_sid], resumed=True), sock)
        if call.media_connected:
            self.pool.send(worker, control.MediaConnected(call_sid))

    async def _create_media_leg(self, call: Call) -> None:
        sid = call.call_sid
        external_host = f"{self._settings.media_host}:{call.port}"
        channel = await self._ari.create_external_media(self._names.media_id(sid), external_host)
        peer = media_address(channel)
        if self._ports.socket_of(sid) is not None:
            self._ports.connect(sid, peer)
            self.pool.send(call.worker, control.MediaConnected(sid))

    async def _step(self, sid: str, step: str, work: Awaitable[object], done: Event) -> None:
        try:
            await work
        except (AriError, OSError) as error:
            log.warning("setup_step_failed", call_id=sid, step=step, reason=str(error))
            self.happen(ev.StepFailed(sid, step, str(error)))
        else:
            self.happen(done)

    async def _remove(self, call: Call, part: Part) -> None:
        sid = call.call_sid
        match part:
            case Part.CALLER:
                work = self._ari.delete_channel(call.channel_id)
            case Part.MEDIA:
                work = self._ari.delete_channel(self._names.media_id(sid))
            case Part.BRIDGE:
                work = self._ari.delete_bridge(self._names.bridge_id(sid))
        await self._removal(sid, part, work)

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
        sid = call.call_sid
        self._specs.pop(sid, None)
        self._homeless.discard(sid)
        self._ports.release(sid)
        if not self._table.calls:
            self.idle.set()
        self.outcomes["up" if call.up_ns else "failed"] += 1
        log.info(
            "call_ended",
            call_id=sid,
            worker=call.worker,
            reason=call.reason,
            setup_ms=(call.up_ns - call.started_ns) // 1_000_000 if call.up_ns else None,
            seconds=round((time.monotonic_ns() - call.started_ns) / 1e9, 1),
            **msgspec.structs.asdict(call.stats),
        )

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("call_task_failed", exc_info=error)
