"""The port table on literal times, and its slices for any shape."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shim.port_layout import Lease, PortLayout, PortState, Shape, initialize
from supervisor.workers.port_table import QUARANTINE_NS, SHORT_QUARANTINE_NS, PortTable

SHAPE = Shape(20_000, 20_007, workers=2)
SECOND_NS = 1_000_000_000
T0 = 100 * SECOND_NS


def new_layout(shape: Shape) -> PortLayout:
    """A table in memory of its own: all ports are free."""
    return initialize(memoryview(bytearray(shape.size_bytes)), shape, table_id=1)


@pytest.fixture
def layout() -> PortLayout:
    """Eight ports for two workers."""
    return new_layout(SHAPE)


@pytest.fixture
def table(layout: PortLayout) -> PortTable:
    """A table on that layout."""
    return PortTable(layout, T0)


def test_ports_are_leased_in_order(table: PortTable, layout: PortLayout) -> None:
    """Each worker has the ports of its own slice, and the memory says who has them."""
    assert [table.lease(1, f"CA{n}", T0) for n in range(5)] == [
        20_004,
        20_005,
        20_006,
        20_007,
        None,
    ]
    assert table.lease(0, "CA9", T0) == 20_000
    assert layout.lease(20_004) == Lease(PortState.LEASED, 1, 1, 0, "CA0")
    assert table.counts(0) == {"free": 3, "leased": 1, "quarantined": 0}
    assert table.counts(1) == {"free": 0, "leased": 4, "quarantined": 0}


def test_reuse_is_first_in_first_out(table: PortTable) -> None:
    """The port that has rested longest is taken first, after all that never were used."""
    for sid in ("CA0", "CA1"):
        table.lease(0, sid, T0)
    table.release(20_001, T0)
    table.release(20_000, T0 + 1)
    later = T0 + 1 + QUARANTINE_NS
    assert [table.lease(0, "CA", later) for _ in range(4)] == [20_002, 20_003, 20_001, 20_000]


def test_a_port_rests_for_30_seconds(table: PortTable, layout: PortLayout) -> None:
    """A freed port is not leased again before its rest is over, while others are free."""
    port = table.lease(0, "CA0", T0)
    assert port == 20_000
    table.release(port, T0)
    assert layout.lease(port) == Lease(PortState.QUARANTINED, 0, 1, T0, "")
    table.lease(0, "CA1", T0 + 30 * SECOND_NS - 1)
    assert layout.lease(port).state is PortState.QUARANTINED
    table.lease(0, "CA2", T0 + 30 * SECOND_NS)
    assert layout.lease(port).state is PortState.FREE
    assert table.counts(0) == {"free": 2, "leased": 2, "quarantined": 0}


def test_the_rest_is_short_when_ports_are_tight(table: PortTable) -> None:
    """With nothing else free a port rests for 2 s, but never less."""
    for _ in range(4):
        table.lease(0, "CA", T0)
    table.release(20_002, T0)
    table.release(20_001, T0 + 5)
    assert table.lease(0, "CA", T0 + SHORT_QUARANTINE_NS - 1) is None
    assert table.lease(0, "CA", T0 + SHORT_QUARANTINE_NS) == 20_002
    assert table.lease(0, "CA", T0 + SHORT_QUARANTINE_NS) is None
    assert table.lease(0, "CA", T0 + SHORT_QUARANTINE_NS + 5) == 20_001


def test_generations_count_leases(table: PortTable, layout: PortLayout) -> None:
    """Each lease of a port has another number, so that its users can be told apart."""
    now_ns = T0
    for generation in range(1, 4):
        assert [table.lease(0, f"CA{generation}", now_ns) for _ in range(4)]
        assert layout.lease(20_000).generation == generation
        for port in range(20_000, 20_004):
            table.release(port, now_ns)
        now_ns += QUARANTINE_NS


def test_a_lease_starts_the_counters_anew(table: PortTable, layout: PortLayout) -> None:
    """The next call on a port doesn't begin with the frames of the last one."""
    words = layout.stream_words(20_000)
    words[0], words[1] = 50, 49
    table.lease(0, "CA0", T0)
    assert (words[0], words[1]) == (0, 0)


def test_releasing_twice_does_nothing(table: PortTable, layout: PortLayout) -> None:
    """A port that is not leased is left alone."""
    table.lease(0, "CA0", T0)
    table.release(20_000, T0)
    table.release(20_000, T0 + 5)
    table.release(20_003, T0)
    assert layout.lease(20_000).freed_ns == T0
    assert table.counts(0) == {"free": 3, "leased": 0, "quarantined": 1}


@given(start=st.integers(1, 65_000), ports=st.integers(1, 500), workers=st.integers(1, 40))
def test_slices_are_disjoint_and_complete(start: int, ports: int, workers: int) -> None:
    """For any shape each port is in exactly one slice, and slices differ by one port at most."""
    table = PortTable(new_layout(Shape(start, start + ports - 1, workers)), 0)
    slices = [table.slice(worker) for worker in range(workers)]
    assert [port for part in slices for port in part] == list(range(start, start + ports))
    assert max(map(len, slices)) - min(map(len, slices)) <= 1


# A supervisor that is started again finds the memory as it was


def test_cells(table: PortTable) -> None:
    """A slice in pieces: how many ports of each are leased, and how many are at rest."""
    assert table.cells(1, 100) == [(0, 0)] * 4
    leased = [table.lease(1, f"CA{n}", T0) for n in range(3)]
    assert leased == [20_004, 20_005, 20_006]
    table.release(20_004, T0)
    assert table.cells(1, 100) == [(0, 1), (1, 0), (1, 0), (0, 0)]
    assert table.cells(1, 2) == [(1, 1), (1, 0)]
    assert table.cells(1, 3) == [(1, 1), (1, 0)]
    assert table.cells(1, 1) == [(2, 1)]
    assert table.cells(0, 2) == [(0, 0)] * 2


@pytest.fixture
def restarted(table: PortTable, layout: PortLayout) -> Callable[[int], PortTable]:
    """Used: 20000 rests since T0, 20001 and 20004 are leased; makes a new table of that memory."""
    table.lease(0, "CA0", T0)
    table.lease(0, "CA1", T0)
    table.lease(1, "CA4", T0)
    table.release(20_000, T0)
    return lambda now_ns: PortTable(layout, now_ns)


def test_a_restart_finds_all_as_it_was(restarted: Callable[[int], PortTable]) -> None:
    """Leased ports stay leased, resting ones go on resting, and generations go on counting."""
    table = restarted(T0 + 1)
    assert table.counts(0) == {"free": 2, "leased": 1, "quarantined": 1}
    assert table.counts(1) == {"free": 3, "leased": 1, "quarantined": 0}
    assert sorted(table.unclaimed()) == [20_001, 20_004]
    assert [table.lease(0, "CA", T0 + 2) for _ in range(3)] == [20_002, 20_003, None]
    assert table.lease(0, "CA", T0 + SHORT_QUARANTINE_NS) == 20_000


def test_adopted_ports_are_claimed(
    restarted: Callable[[int], PortTable], layout: PortLayout
) -> None:
    """A port whose worker has come back is leased as before, and ends as any other."""
    table = restarted(T0 + 1)
    table.adopt(20_001, 0, "CA1")
    assert table.unclaimed() == [20_004]
    assert layout.lease(20_001) == Lease(PortState.LEASED, 0, 1, 0, "CA1")
    table.release(20_001, T0 + 2)
    assert table.counts(0)["quarantined"] == 2


def test_unclaimed_ports_are_given_up(
    restarted: Callable[[int], PortTable], layout: PortLayout
) -> None:
    """A port that nobody claims rests in its slice from then on."""
    table = restarted(T0 + 1)
    for port in table.unclaimed():
        table.release(port, T0 + 9)
    assert layout.lease(20_004) == Lease(PortState.QUARANTINED, 1, 1, T0 + 9, "")
    assert table.unclaimed() == []
    assert table.counts(0) == {"free": 2, "leased": 0, "quarantined": 2}


@pytest.mark.parametrize("port", [20_000, 20_002])
def test_adopting_what_was_not_leased(restarted: Callable[[int], PortTable], port: int) -> None:
    """The worker knows best: a port that rests or is free is leased once it is adopted."""
    table = restarted(T0 + 1)
    table.adopt(port, 0, "CA7")
    assert table.counts(0)["leased"] == 2
    taken = [table.lease(0, "CA", T0 + QUARANTINE_NS) for _ in range(4)]
    assert port not in taken
    assert taken.count(None) == 2


def test_a_rest_from_the_future_ends(layout: PortLayout) -> None:
    """Memory from before a reboot has times that are far ahead: ports rest from now on."""
    layout.write_lease(20_000, Lease(PortState.QUARANTINED, 0, 3, 10**18, ""))
    table = PortTable(layout, T0)
    for _ in range(3):
        table.lease(0, "CA", T0)
    assert table.lease(0, "CA", T0 + SHORT_QUARANTINE_NS) == 20_000


class PortTableMachine(RuleBasedStateMachine):
    """Leases, releases and restarts at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = T0
        self.layout = new_layout(SHAPE)
        self.table = PortTable(self.layout, self.now_ns)
        self.leased: dict[int, str] = {}
        self.freed_ns: dict[int, int] = {}
        self.calls = 0

    @rule(worker=st.integers(0, 1))
    def lease(self, worker: int) -> None:
        self.calls += 1
        sid = f"CA{self.calls}"
        port = self.table.lease(worker, sid, self.now_ns)
        if port is None:
            return
        assert port in self.table.slice(worker)
        assert port not in self.leased
        rested_ns = self.now_ns - self.freed_ns.get(port, self.now_ns - QUARANTINE_NS)
        assert rested_ns >= SHORT_QUARANTINE_NS
        self.leased[port] = sid

    @rule(pick=st.integers(0, 7))
    def release(self, pick: int) -> None:
        port = SHAPE.start + pick
        self.table.release(port, self.now_ns)
        if self.leased.pop(port, None):
            self.freed_ns[port] = self.now_ns

    @rule(seconds=st.sampled_from([1, 2, 29, 30]))
    def wait(self, seconds: int) -> None:
        self.now_ns += seconds * SECOND_NS

    @rule(claimed=st.booleans())
    def restart(self, claimed: bool) -> None:
        self.table = PortTable(self.layout, self.now_ns)
        assert sorted(self.table.unclaimed()) == sorted(self.leased)
        for port, sid in list(self.leased.items()):
            if claimed:
                self.table.adopt(port, self.layout.lease(port).worker, sid)
            else:
                self.release(port - SHAPE.start)

    @invariant()
    def every_port_is_somewhere(self) -> None:
        for worker in range(SHAPE.workers):
            counts = self.table.counts(worker)
            assert sum(counts.values()) == len(self.table.slice(worker))
            assert counts["leased"] == sum(p in self.table.slice(worker) for p in self.leased)
        for port, sid in self.leased.items():
            assert self.layout.lease(port).call_sid == sid


TestPortTable = PortTableMachine.TestCase
TestPortTable.settings = settings(max_examples=60, deadline=None)
