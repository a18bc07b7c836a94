"""The audit log's file: over restarts, crashes, rotation, a second writer, a full disk."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shim.environment import ConfigError
from supervisor.api.audit_chain import LOST, TORN, Deed, Verdict, read_line, verify
from supervisor.api.audit_log import MAX_WAITING_LINES, AuditLog

PATIENCE_S = 10.0
DEED = Deed("call.hangup", "done")


def check(path: Path) -> Verdict:
    """The verdict about a file, which has to be whole."""
    with path.open("rb") as file:
        verdict = verify(file)
    assert verdict.broken_line == 0, verdict
    return verdict


def actions(path: Path) -> list[str]:
    """What is in the log."""
    lines = path.read_bytes().splitlines()
    return [read_line(line)[0].action for line in lines if line.endswith(b'"}')]


def until(condition: Callable[[], bool]) -> None:
    """Poll to a deadline."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def write(path: Path, count: int = 1) -> None:
    """Open, write, close: a supervisor's life."""
    log = AuditLog(path)
    for _ in range(count):
        log.record(DEED)
    log.close()


def test_over_restarts(tmp_path: Path) -> None:
    """One chain; nobody else may read it."""
    path = tmp_path / "audit.jsonl"
    for _ in range(3):
        write(path, 200)
    assert check(path).head.seq == 600
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_torn_line(tmp_path: Path) -> None:
    """What a crash left stays; a note says so, and the chain goes on."""
    path = tmp_path / "audit.jsonl"
    write(path, 2)
    os.truncate(path, path.stat().st_size - 30)
    assert check(path).torn
    write(path)
    assert actions(path) == ["call.hangup", TORN, "call.hangup"]
    assert check(path).head.seq == 3


def test_two_writers(tmp_path: Path) -> None:
    """Two supervisors on one log make one chain."""
    path = tmp_path / "audit.jsonl"
    first, second = AuditLog(path), AuditLog(path)
    for number in range(100):
        (first if number % 2 else second).record(DEED)
    first.close()
    second.close()
    assert check(path).head.seq == 100


def test_rotation(tmp_path: Path) -> None:
    """A file that was moved away is begun anew; the chain goes on in it."""
    path, old = tmp_path / "audit.jsonl", tmp_path / "audit.1"
    log = AuditLog(path)
    log.record(DEED)
    until(lambda: log.health().written == 1)
    path.rename(old)
    log.record(DEED)
    log.close()
    assert check(old).head.seq == 1
    assert check(path).head.seq == 2


def test_it_cannot_be_written(tmp_path: Path) -> None:
    """It is known, lines wait, and are written when they can be."""
    path = tmp_path / "logs" / "audit.jsonl"
    path.parent.mkdir()
    log = AuditLog(path)
    path.unlink()
    path.parent.rmdir()
    log.record(DEED)
    until(lambda: log.problem == "No such file or directory")
    assert log.health().waiting == 1
    path.parent.mkdir()
    until(lambda: log.health().waiting == 0)
    assert log.problem == ""
    log.close()
    assert check(path).lines == 1


def test_too_many_lines_wait(tmp_path: Path) -> None:
    """What finds no room is lost, and the log says how many."""
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path)
    path.unlink()
    path.mkdir()
    for _ in range(MAX_WAITING_LINES + 7):
        log.record(DEED)
    assert log.health().lost == 7
    until(lambda: bool(log.problem))
    path.rmdir()
    until(lambda: log.health().waiting == 0)
    log.close()
    assert actions(path)[-1] == LOST
    assert read_line(path.read_bytes().splitlines()[-1])[0].outcome == "lost:7"
    check(path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_disk_that_is_full() -> None:
    """A write that fails is a problem, not an end."""
    log = AuditLog(Path("/dev/full"))
    log.record(DEED)
    until(lambda: log.problem == "No space left on device")
    assert log.health().written == 0
    log.close()


def test_a_path_that_is_none(tmp_path: Path) -> None:
    """The start fails in words that name the variable."""
    with pytest.raises(ConfigError, match=r"AUDIT_LOG is .*: No such file or directory; allowed"):
        AuditLog(tmp_path / "missing" / "audit.jsonl")
