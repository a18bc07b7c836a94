"""The call table against a model world: whatever happens, in the end nothing is left."""

import os

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from supervisor.calls import events as ev
from supervisor.calls.state import Phase, Presence
from supervisor.calls.table import REMOVAL_RETRY_NS
from tests.supervisor.call_world import RULES, World

WORKERS = 2
CALLERS = st.sampled_from([f"caller-{number}" for number in range(3)])
PICK = st.integers(0, 20)
LAST_ROUNDS = 50


class CallTableMachine(RuleBasedStateMachine):
    """Callers, Asterisk, workers and time do what they like."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(WORKERS)
        self.came: set[str] = set()
        self.in_doubt = False  # only a comparison with Asterisk can find all that is left

    @rule(caller=CALLERS)
    def caller_comes(self, caller: str) -> None:
        if caller not in self.came:
            self.came.add(caller)
            self.world.enter(caller)

    @rule(caller=CALLERS)
    def caller_hangs_up(self, caller: str) -> None:
        self.world.leave(caller)

    @precondition(lambda self: self.world.requests)
    @rule(pick=PICK)
    def asterisk_acts(self, pick: int) -> None:
        request = self.world.requests[pick % len(self.world.requests)]
        if not request.acted:
            self.world.act(request)

    @precondition(lambda self: self.world.requests)
    @rule(pick=PICK)
    def request_succeeds(self, pick: int) -> None:
        request = self.world.requests[pick % len(self.world.requests)]
        if not request.acted:
            self.world.act(request)
        self.world.answer(request, lost=False)

    @precondition(lambda self: self.world.requests)
    @rule(pick=PICK)
    def request_fails(self, pick: int) -> None:
        """Its effect may have been, may be later, or may never be."""
        request = self.world.requests[pick % len(self.world.requests)]
        self.in_doubt |= not request.acted
        self.world.answer(request, lost=True)

    @precondition(lambda self: self.world.late)
    @rule(pick=PICK)
    def failed_request_is_done_late(self, pick: int) -> None:
        self.world.act(self.world.late.pop(pick % len(self.world.late)))

    @precondition(lambda self: self.world.events)
    @rule(pick=PICK, again=st.booleans())
    def event_arrives(self, pick: int, again: bool) -> None:
        event = self.world.events[pick % len(self.world.events)]
        if not again:
            self.world.events.remove(event)
        self.world.happen(event)

    @precondition(lambda self: self.world.events)
    @rule(pick=PICK)
    def event_is_lost(self, pick: int) -> None:
        self.in_doubt = True
        self.world.events.pop(pick % len(self.world.events))

    @rule(index=st.integers(0, WORKERS - 1))
    def worker_serves(self, index: int) -> None:
        worker = self.world.workers[index]
        if worker is not None and worker.inbox:
            self.world.serve(worker)

    @rule(index=st.integers(0, WORKERS - 1))
    def worker_dies_or_is_replaced(self, index: int) -> None:
        if self.world.workers[index] is None:
            self.world.revive(index)
        else:
            self.world.die(index)

    @precondition(lambda self: self.world.table.calls)
    @rule(pick=PICK, failed=st.booleans())
    def stream_ends(self, pick: int, failed: bool) -> None:
        sid = sorted(self.world.table.calls)[pick % len(self.world.table.calls)]
        if any(worker and sid in worker.calls for worker in self.world.workers):
            self.world.happen(ev.StreamEnded(sid, "by the voice server", failed))

    @precondition(lambda self: self.world.table.calls)
    @rule(pick=PICK)
    def operator_ends_call(self, pick: int) -> None:
        self.world.end(sorted(self.world.table.calls)[pick % len(self.world.table.calls)])

    @rule(caller=CALLERS)
    def digit_is_pressed(self, caller: str) -> None:
        self.world.happen(ev.DigitPressed(caller, "1"))

    @rule(duration_ns=st.sampled_from([1, REMOVAL_RETRY_NS, RULES.setup_timeout_ns]))
    def time_passes(self, duration_ns: int) -> None:
        self.world.wait(duration_ns)

    @rule()
    def asterisk_is_compared(self) -> None:
        self.world.reconcile()

    @invariant()
    def one_call_per_channel(self) -> None:
        # A caller who has left may come again while the call before still ends.
        calls = [
            call for call in self.world.table.calls.values() if call.caller is not Presence.ABSENT
        ]
        channels = [call.channel_id for call in calls]
        assert len(channels) == len(set(channels))
        assert all(self.world.table.find(call.channel_id) is call for call in calls)

    @invariant()
    def one_worker_per_call(self) -> None:
        served = [sid for worker in self.world.workers if worker for sid in worker.calls]
        assert len(served) == len(set(served))

    @invariant()
    def calls_have_deadlines_until_they_are_up(self) -> None:
        for call in self.world.table.calls.values():
            assert (call.phase is Phase.SETTING_UP) <= (call.deadline_ns > 0)

    def teardown(self) -> None:
        """All callers are gone, all answers are in, time has passed: nothing may be left."""
        world = self.world
        for index, worker in enumerate(world.workers):
            if worker is None:
                world.revive(index)
        for caller in list(world.callers):
            world.leave(caller)
        while world.late:
            self.failed_request_is_done_late(0)
        self._let_all_end()
        if self.in_doubt:
            world.reconcile()
            self._let_all_end()
        assert not world.table.calls
        assert not world.callers
        assert not world.bridges
        assert not world.media
        assert not world.ports
        assert not world.homeless
        assert not any(worker.calls for worker in world.workers if worker)
        assert world.table.next_deadline_ns() is None

    def _let_all_end(self) -> None:
        world = self.world
        for _ in range(LAST_ROUNDS):
            while world.requests:
                self.request_succeeds(0)
            while world.events:
                self.event_arrives(0, again=False)
            for worker in world.workers:
                while worker is not None and worker.inbox:
                    world.serve(worker)
            world.wait(REMOVAL_RETRY_NS)
            if not (world.requests or world.events or world.table.calls):
                return


TestCallTable = CallTableMachine.TestCase
TestCallTable.settings = settings(
    max_examples=int(os.environ.get("CALL_TABLE_RUNS", "100")),
    stateful_step_count=60,
    deadline=None,
)
