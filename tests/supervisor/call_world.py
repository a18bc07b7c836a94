"""A model of all that is around the call table: an Asterisk, its events, and workers.

It carries out the table's commands as the real ones do, but in whatever order and with whatever
failures its driver wants: a request can fail before or after it has had its effect, or have it long
after its failure was reported; events come late, twice, in any order, or never; workers die.
"""

from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from itertools import count

from msgspec import Struct, field

from shim.control import CallStats
from supervisor.ari.events import Bridge, Channel, Dialplan
from supervisor.calls import events as ev
from supervisor.calls.ari_meaning import reconcile
from supervisor.calls.events import Command, Event
from supervisor.calls.names import CallNames
from supervisor.calls.state import Leg, OnEnd, Part, Phase
from supervisor.calls.table import CallTable, Rules

SECOND_NS = 1_000_000_000
RULES = Rules(OnEnd.HANG_UP, OnEnd.CONTINUE, 10 * SECOND_NS)
NAMES = CallNames("app")
IN_APP = Dialplan(app_name="Stasis", app_data="app,inbound")


class Request(Struct, eq=False):
    """A request to Asterisk that is under way; `acted`: it has had its effect."""

    act: Callable[[], bool]
    done: Event
    failed: Event
    acted: bool = False
    succeeded: bool = False


class Worker(Struct, eq=False):
    """A worker process: commands that it has not read yet, and the calls that it serves."""

    inbox: deque[Command] = field(default_factory=deque)
    calls: set[str] = set()


class World:
    """Everything outside of the table; `happen` is the only way in."""

    def __init__(self, workers: int) -> None:
        numbers = count(1)
        self.table = CallTable(RULES, lambda: f"CA{next(numbers)}")
        self.now_ns = SECOND_NS
        self.callers: set[str] = set()  # channels in the app
        self.media: set[str] = set()
        self.bridges: dict[str, set[str]] = {}
        self.requests: list[Request] = []
        self.late: list[Request] = []  # reported as failed, and not done yet
        self.events: list[Event] = []
        self.workers: list[Worker | None] = [Worker() for _ in range(workers)]
        self.ports: set[str] = set()
        self.homeless: set[str] = set()
        self.handed_over: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.entered: Counter[str] = Counter()

    # The table, and what carries out its commands

    def happen(self, event: Event) -> None:
        """Let the table decide, and do what it says."""
        self._carry_out(self.table.handle(event, self.now_ns))

    def wait(self, duration_ns: int) -> None:
        """Let time pass."""
        self.now_ns += duration_ns
        self._carry_out(self.table.expire(self.now_ns))

    def end(self, call_sid: str) -> None:
        """The operator ends a call."""
        self._carry_out(self.table.end(call_sid, "by wish", OnEnd.CONTINUE, self.now_ns))

    def reconcile(self) -> None:
        """Compare with Asterisk, as after a reconnect: no event that came before follows."""
        self.events.clear()
        channels = [Channel(caller, f"PJSIP/{caller}", dialplan=IN_APP) for caller in self.callers]
        channels += [Channel(media, "UnicastRTP/x", dialplan=IN_APP) for media in self.media]
        bridges = [Bridge(name, channels=tuple(legs)) for name, legs in self.bridges.items()]
        found = reconcile(self.table.calls, channels, bridges, NAMES, self.now_ns)
        for event in found.events:
            self.happen(event)
        for channel in found.orphan_channels:
            self._delete_media(channel)
        for bridge in found.orphan_bridges:
            self.bridges.pop(bridge)

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            self._do(command)

    def _do(self, command: Command) -> None:
        sid = command.call_sid
        match command:
            case ev.Place():
                self._place(sid)
            case ev.OpenStream() | ev.CloseStream() if sid not in self.homeless:
                self._send(sid, command)
            case ev.CloseStream():
                self.homeless.discard(sid)
                self.happen(ev.StreamClosed(sid, CallStats()))
            case ev.MoveStream():
                self._move(sid)
            case ev.Forget(call=call):
                assert call.call_sid not in self.table.calls
                assert sid not in self.homeless
                self.ports.discard(sid)
            case ev.PressDigit() | ev.SendDigits():
                assert self.table.calls[sid].phase is not Phase.ENDING
            case _:
                self.requests.append(self._request(command))

    def _request(self, command: Command) -> Request:
        sid = command.call_sid
        channel = self.table.calls[sid].channel_id
        bridge, media = NAMES.bridge_id(sid), NAMES.media_id(sid)
        match command:
            case ev.CreateBridge():
                done, failed = ev.BridgeCreated(sid), ev.StepFailed(sid, Part.BRIDGE, "failed")
                return Request(partial(self._create_bridge, bridge), done, failed)
            case ev.CreateMediaLeg():
                created = ev.MediaLegCreated(sid)
                return Request(
                    partial(self._create_media, media, sid),
                    created,
                    ev.StepFailed(sid, Part.MEDIA, "failed"),
                )
            case ev.Join(leg=leg):
                joining = channel if leg is Leg.CALLER else media
                not_joined = ev.StepFailed(sid, f"join {leg}", "failed")
                return Request(
                    partial(self._join, bridge, joining), ev.Joined(sid, leg), not_joined
                )
            case ev.RemovePart(part=part):
                removals = {
                    Part.CALLER: partial(self.leave, channel),
                    Part.MEDIA: partial(self._delete_media, media),
                    Part.BRIDGE: partial(self._delete_bridge, bridge),
                }
                gone, left = ev.PartRemoved(sid, part), ev.RemovalFailed(sid, part)
                return Request(removals[part], gone, left)
            case ev.ContinueCaller():
                kept = ev.RemovalFailed(sid, Part.CALLER)
                gone = ev.PartRemoved(sid, Part.CALLER)
                return Request(partial(self.leave, channel), gone, kept)
        raise TypeError(f"{command} is no request")

    # Asterisk

    def enter(self, channel: str) -> None:
        """A caller comes into the app."""
        self.callers.add(channel)
        self.entered[channel] += 1
        self.events.append(ev.CallerEntered(channel))

    def leave(self, channel: str) -> bool:
        """A caller's channel leaves the app: hung up, or back in the dialplan."""
        if channel in self.callers:
            self.callers.discard(channel)
            self._leave_bridges(channel)
            self.events.append(ev.CallerLeft(channel))
        return True  # a channel that is not there counts as removed

    def act(self, request: Request) -> None:
        """Asterisk does what it was asked for."""
        request.acted = True
        request.succeeded = request.act()

    def answer(self, request: Request, *, lost: bool) -> None:
        """The request is over for us; with `lost` we don't hear what came of it."""
        self.requests.remove(request)
        if not request.acted:
            self.late.append(request)
        self.happen(request.done if request.succeeded and not lost else request.failed)

    def _create_bridge(self, bridge: str) -> bool:
        self.bridges.setdefault(bridge, set())
        return True

    def _create_media(self, media: str, sid: str) -> bool:
        self.media.add(media)
        self.events.append(ev.MediaLegEntered(sid))
        return True

    def _join(self, bridge: str, channel: str) -> bool:
        if bridge not in self.bridges or channel not in self.callers | self.media:
            return False
        self._leave_bridges(channel)
        self.bridges[bridge].add(channel)
        return True

    def _delete_media(self, media: str) -> bool:
        if media in self.media:
            self.media.discard(media)
            self._leave_bridges(media)
            self.events.append(ev.MediaLegLeft(NAMES.call_of_media(media)))
        return True

    def _delete_bridge(self, bridge: str) -> bool:
        self.bridges.pop(bridge, None)
        return True

    def _leave_bridges(self, channel: str) -> None:
        for legs in self.bridges.values():
            legs.discard(channel)

    # Workers

    def serve(self, worker: Worker) -> None:
        """A worker reads one message, and tells what came of it."""
        command = worker.inbox.popleft()
        sid = command.call_sid
        if isinstance(command, ev.OpenStream | ev.MoveStream):
            worker.calls.add(sid)
            self.happen(ev.StreamStarted(sid))
        else:
            worker.calls.remove(sid)
            self.happen(ev.StreamClosed(sid, CallStats()))

    def die(self, index: int) -> None:
        """A worker dies, and with it all that it serves and has not read."""
        self.workers[index] = None
        for call in list(self.table.calls.values()):
            if call.worker == index and call.call_sid not in self.homeless:
                self.lost[call.call_sid] += 1
                self.happen(ev.StreamLost(call.call_sid))

    def revive(self, index: int) -> None:
        """A new worker is ready: calls that have none go to it."""
        self.workers[index] = Worker()
        homeless, self.homeless = self.homeless, set()
        for sid in homeless:
            self._move(sid)

    def _place(self, sid: str) -> None:
        alive = [index for index, worker in enumerate(self.workers) if worker is not None]
        if not alive:
            self.happen(ev.PlacementFailed(sid, "no worker"))
            return
        self.ports.add(sid)
        self.happen(ev.Placed(sid, alive[len(self.ports) % len(alive)], 20_000))

    def _move(self, sid: str) -> None:
        alive = [index for index, worker in enumerate(self.workers) if worker is not None]
        if not alive:
            self.homeless.add(sid)
            return
        self.happen(ev.StreamMoved(sid, alive[0]))
        self._send(sid, ev.MoveStream(sid))

    def _send(self, sid: str, command: Command) -> None:
        worker = self.workers[self.table.calls[sid].worker]
        assert worker is not None, f"{command} goes to a dead worker"
        worker.inbox.append(command)
        if not isinstance(command, ev.CloseStream):
            assert self.table.calls[sid].phase is not Phase.ENDING
            self.handed_over[sid] += 1
            assert self.handed_over[sid] <= 1 + self.lost[sid], "handed over twice"
