"""The port table: its fields, its errors, and two processes on one memory."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from shim import port_memory
from shim.port_layout import LayoutError, Lease, PortLayout, PortState, Shape, initialize
from tests.shim.harness import REPOSITORY
from tests.shim.samples import CALL

SHAPE = Shape(20000, 20009, 2)
LEASE = Lease(PortState.LEASED, 1, 4_000_000_000, (1 << 63) + 5, CALL.call_sid)


def new_table(shape: Shape = SHAPE) -> PortLayout:
    """A table in plain memory."""
    return initialize(memoryview(bytearray(shape.size_bytes)), shape, table_id=77)


def test_size() -> None:
    """64 bytes of header, 64 for each worker, 128 for each port; the last port counts."""
    assert SHAPE.ports == 10
    assert SHAPE.size_bytes == 64 + 2 * 64 + 10 * 128


def test_new_table_is_free() -> None:
    """Zeroed memory means free ports, no frames, no heartbeat."""
    table = new_table()
    assert {table.lease(port).state for port in range(20000, 20010)} == {PortState.FREE}
    assert table.lease(20009) == Lease(PortState.FREE, 0, 0, 0, "")
    assert (table.frames_out(20003), table.heartbeat_ns(1, 0)) == (0, 0)
    assert (table.shape, table.table_id) == (SHAPE, 77)


def test_lease_is_read_as_it_was_written() -> None:
    """All fields at the far end of their range, and the neighbours untouched."""
    table = new_table()
    table.write_lease(20004, LEASE)
    assert table.lease(20004) == LEASE
    assert table.lease(20003).state == table.lease(20005).state == PortState.FREE


def test_worker_fields_and_supervisor_fields_are_apart() -> None:
    """Frames and heartbeats don't touch leases, and the other way round."""
    table = new_table()
    words = table.stream_words(20004)
    words[0], words[1] = 123, 45
    table.beat(1, 0, 987)
    table.beat(1, 1, 654)
    table.write_lease(20004, LEASE)
    assert list(words[:2]) == [123, 45]
    assert table.frames_out(20004) == 123
    beats = [table.heartbeat_ns(worker, seat) for worker in (0, 1) for seat in (0, 1)]
    assert beats == [0, 0, 987, 654]
    assert table.lease(20004) == LEASE


def test_counters_are_reset_before_a_new_call() -> None:
    """All that a worker wrote about the port's last call is gone."""
    table = new_table()
    words = table.stream_words(20004)
    words[:] = memoryview(bytearray(b"\x07" * words.nbytes)).cast("Q")
    table.stream_words(20005)[0] = 9
    table.reset_frames(20004)
    assert set(words) == {0}
    assert table.frames_out(20005) == 9


@pytest.mark.parametrize("port", [19999, 20010, -1])
def test_port_outside_the_table(port: int) -> None:
    """The error names the port and the range."""
    with pytest.raises(IndexError, match=rf"port {port} is not in 20000\.\.20009"):
        new_table().stream_words(port)


@pytest.mark.parametrize(("worker", "seat"), [(2, 0), (-1, 0), (0, 2), (1, -1)])
def test_worker_outside_the_table(worker: int, seat: int) -> None:
    """The error names seat and worker."""
    with pytest.raises(IndexError, match=rf"no seat {seat} of worker {worker}"):
        new_table().beat(worker, seat, 1)


def test_other_memory_is_refused() -> None:
    """No magic, another version, too short for its shape, or too short for a header."""
    memory = bytearray(SHAPE.size_bytes)
    with pytest.raises(LayoutError, match="magic"):
        PortLayout(memoryview(memory))
    initialize(memoryview(memory), SHAPE, 1)
    with pytest.raises(LayoutError, match=f"{len(memory) - 1} bytes for a table that needs"):
        PortLayout(memoryview(memory)[:-1])
    with pytest.raises(LayoutError, match="63 bytes are no port table"):
        PortLayout(memoryview(memory)[:63])
    memory[8] = 2
    with pytest.raises(LayoutError, match="version 2"):
        PortLayout(memoryview(memory))


def test_attach_errors(tmp_path: Path) -> None:
    """A missing, an empty and a foreign file are three clear errors, and no file stays open."""
    with pytest.raises(FileNotFoundError):
        port_memory.attach(tmp_path / "none")
    (tmp_path / "empty").touch()
    with pytest.raises(LayoutError, match="empty is empty"):
        port_memory.attach(tmp_path / "empty")
    (tmp_path / "foreign").write_bytes(b"x" * 4096)
    with pytest.raises(LayoutError, match="magic"):
        port_memory.attach(tmp_path / "foreign")


def test_file_is_private_and_replaced_whole(tmp_path: Path) -> None:
    """Mode 0600; a new table takes the place of the old one, which lives on where it is mapped."""
    path = tmp_path / "ports"
    old = port_memory.create(path, SHAPE)
    old.layout.write_lease(20000, LEASE)
    new = port_memory.create(path, SHAPE)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["ports"]
    assert new.layout.lease(20000).state == PortState.FREE
    assert old.layout.lease(20000) == LEASE
    old.close()
    new.close()


def test_going_on_with_a_table(tmp_path: Path) -> None:
    """A restarted supervisor finds its leases again; a table of another shape is replaced."""
    path = tmp_path / "ports"
    first = port_memory.create(path, SHAPE)
    first.layout.write_lease(20004, LEASE)
    second = port_memory.attach_or_create(path, SHAPE)
    assert second.layout.lease(20004) == LEASE
    assert second.layout.table_id == first.layout.table_id
    third = port_memory.attach_or_create(path, Shape(20000, 20010, 2))
    assert third.layout.lease(20004).state == PortState.FREE
    assert third.layout.table_id != first.layout.table_id
    for memory in (first, second, third):
        memory.close()


OTHER_PROCESS = """
import sys
from pathlib import Path
from shim import port_memory
memory = port_memory.attach(Path(sys.argv[1]))
layout = memory.layout
print(layout.shape.workers, layout.lease(20004).call_sid, layout.stream_words(20004)[0])
layout.stream_words(20004)[0] += 1
layout.beat(1, 1, int(sys.argv[2]))
memory.close()
"""


def test_two_processes_share_a_table(tmp_path: Path) -> None:
    """Each sees what the other wrote, and the file outlives the one that attached."""
    path = tmp_path / "ports"
    memory = port_memory.create(path, SHAPE)
    memory.layout.write_lease(20004, LEASE)
    now_ns = time.monotonic_ns()
    for turn in range(2):
        done = subprocess.run(
            [sys.executable, "-c", OTHER_PROCESS, str(path), str(now_ns + turn)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == ["2", CALL.call_sid, str(turn)]
        assert done.stderr == ""
        assert memory.layout.heartbeat_ns(1, 1) == now_ns + turn
    assert memory.layout.frames_out(20004) == 2
    assert path.exists()
    memory.close()
