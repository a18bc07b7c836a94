"""Walks through the call table: literal events go in, and the commands of the last one come out."""

from shim.control import CallStats
from supervisor.calls import events as ev
from supervisor.calls.events import Command, Event
from supervisor.calls.state import Call, Leg, OnEnd, Part
from supervisor.calls.table import CallTable, Rules

SECOND_NS = 1_000_000_000
RULES = Rules(OnEnd.HANG_UP, OnEnd.CONTINUE, 10 * SECOND_NS)
STATS = CallStats(frames_out=7)
A = "CA1"
SET_UP: list[Event] = [
    ev.CallerEntered("caller-1", "+15550100", "+15551234567"),
    ev.Placed(A, worker=1, port=20_000),
    ev.BridgeCreated(A),
    ev.MediaLegCreated(A),
    ev.MediaLegEntered(A),
    ev.Joined(A, Leg.CALLER),
    ev.Joined(A, Leg.MEDIA),
]
REMOVE_BRIDGE = ev.RemovePart(A, Part.BRIDGE)
REMOVE_MEDIA = ev.RemovePart(A, Part.MEDIA)
HANG_UP = ev.RemovePart(A, Part.CALLER)
GO_ON = ev.ContinueCaller(A)


class Walk:
    """A table, its clock, and the commands that came out of the last event."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.sids = iter(["CA1", "CA2", "CA3"])
        self.table = CallTable(rules, lambda: next(self.sids))
        self.now_ns = SECOND_NS

    def take(self, *events: Event) -> list[Command]:
        """Let events happen one after the other; the commands of the last one."""
        commands: list[Command] = []
        for event in events:
            commands = self.table.handle(event, self.now_ns)
        return commands

    def wait(self, duration_ns: int) -> list[Command]:
        """Let time pass, and do what is due then."""
        self.now_ns += duration_ns
        return self.table.expire(self.now_ns)

    @property
    def call(self) -> Call:
        return self.table.calls[A]
