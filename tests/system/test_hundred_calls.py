"""A hundred calls at once on the real Asterisk: everybody hears only themselves."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.stack import Stack
from tests.system import callers

pytestmark = pytest.mark.asterisk

CALLS = 100
SECONDS = 30.0


@pytest.fixture(scope="module")
def stack(asterisk_rootfs: Path) -> Iterator[Stack]:
    """The whole system, with two workers."""
    with Stack(real=True, settings={"WORKERS": "2"}) as running:
        yield running


async def test_each_of_a_hundred_callers_hears_its_own_tone(stack: Stack) -> None:
    """Split between two pinned workers, each in its slice; then nothing of them is left."""
    fds = {pid: _fds(pid) for pid in _pids(stack)}
    calling = asyncio.create_task(callers.place(stack.sip_uri, CALLS, SECONDS, 50.0))
    await asyncio.to_thread(stack.wait_until, lambda: _sessions(stack) == CALLS, 15, "100 calls")
    workers = await asyncio.to_thread(stack.workers)
    _check_split(workers)
    records = await calling
    assert callers.wrong(records) == []
    sent = [
        record.sent_packets / (record.ended_at - (record.answered_at or 0)) for record in records
    ]
    assert min(sent) > 49, "the callers did not send what they should"
    await asyncio.to_thread(stack.wait_until, lambda: _sessions(stack) == 0, 10, "calls left")
    await asyncio.to_thread(
        stack.wait_until, lambda: not any(stack.left_in_asterisk().values()), 10, "channels left"
    )
    assert [worker["ports"]["leased"] for worker in stack.workers()] == [0, 0]
    await asyncio.to_thread(
        stack.wait_until, lambda: fds == {pid: _fds(pid) for pid in fds}, 15, "descriptors left"
    )


def _check_split(workers: list[dict[str, object]]) -> None:
    """Half of the calls each, on ports of their own, and on CPUs of their own if there are two."""
    assert [worker["calls"] for worker in workers] == [CALLS // 2, CALLS // 2]
    usable = sorted(os.sched_getaffinity(0))
    for worker in workers:
        pid, cpu = worker["pid"], worker["cpu"]
        assert isinstance(pid, int)
        assert isinstance(cpu, int)
        assert os.sched_getaffinity(pid) == {cpu}
        assert cpu in usable
        assert _udp_ports(pid) <= _slice(worker)
        assert len(_udp_ports(pid)) == CALLS // 2
    if len(usable) > 1:
        assert workers[0]["cpu"] != workers[1]["cpu"]


def _slice(worker: dict[str, object]) -> set[int]:
    ports = worker["ports"]
    assert isinstance(ports, dict)
    return set(range(ports["first"], ports["last"] + 1))


def _udp_ports(pid: int) -> set[int]:
    """The UDP ports that a process has sockets on (proc(5), net/udp)."""
    sockets = _descriptors(pid)
    return {int(row[1].split(":")[1], 16) for row in _net("udp") if f"socket:[{row[9]}]" in sockets}


def _sessions(stack: Stack) -> int:
    return int(stack.health()["active_sessions"])


def _pids(stack: Stack) -> list[int]:
    return [stack.supervisor.pid, *(int(worker["pid"]) for worker in stack.workers())]


def _fds(pid: int) -> int:
    """The open descriptors, but for TCP: the supervisor keeps some connections to ARI alive."""
    return len(_descriptors(pid) - {f"socket:[{row[9]}]" for row in _net("tcp")})


def _descriptors(pid: int) -> set[str]:
    """What a process's descriptors stand for, each with its number where that is not unique."""
    links = Path(f"/proc/{pid}/fd").iterdir()
    targets = {link.name: os.readlink(link) for link in links}
    return {
        target if target.startswith("socket:[") else f"{name} {target}"
        for name, target in targets.items()
    }


def _net(protocol: str) -> list[list[str]]:
    """The rows of the kernel's list of sockets; column 1 is the address, column 9 the inode."""
    lines = Path(f"/proc/net/{protocol}").read_text(encoding="ascii").splitlines()[1:]
    return [line.split() for line in lines]
