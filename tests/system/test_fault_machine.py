"""Faults of the machine, on the whole system: the wall clock jumps, logs can't be written."""

import os
import subprocess
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import pytest

from loadtest import recording
from loadtest.phone_plan import CallRecord
from loadtest.stack import Part
from tests.supervisor.stack import RunningStack

CLOCK_SOURCE = Path(__file__).with_name("wall_clock.c")
ALMOST_AN_HOUR_S = 3590
PIPE_BYTES = 4096


class PartWithFullLog(Part):
    """A process whose standard error takes nothing: /dev/full, or a pipe that nobody reads."""

    def __init__(self, like: Part, sink: int) -> None:
        super().__init__(like.name, like._command[2:], like._log_path)
        self._sink = sink

    def start(self, environment: Mapping[str, str]) -> None:
        """Start it, in a process group of its own."""
        self.process = subprocess.Popen(
            self._command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._sink,
            start_new_session=True,
        )


def check_unbroken(record: CallRecord) -> None:
    """The caller hung up, and had missed nothing until then."""
    assert (record.outcome, record.ended_by) == ("answered", "caller")
    heard = recording.continuity(record.packets)
    assert (heard.lost, heard.duplicates, heard.ssrc_changes) == (0, 0, 0)


@pytest.fixture
def wall_clock(tmp_path: Path) -> Path:
    """A library to preload, whose wall clock jumps."""
    library = tmp_path / "wall_clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, CLOCK_SOURCE], check=True)
    return library


async def test_the_wall_clock_jumps(wall_clock: Path) -> None:
    """Row 38: an hour forward and back; timestamps and pace of the audio know nothing of it."""
    jumps = wall_clock.with_name("jumps")
    with RunningStack(start=("asterisk", "agent")) as stack:
        stack.for_supervisor |= {"LD_PRELOAD": str(wall_clock), "WALL_CLOCK_JUMPS": str(jumps)}
        stack.start_supervisor()
        async with stack.calling() as call:
            await stack.until_up()
            jumps.touch()
            await stack.until_audio(call)
            async with stack.calling() as another:
                await stack.until_audio(another)
            assert stack.health()["status"] == "ok"
            jumps.unlink()
            await stack.until_audio(call)
        check_unbroken(await call.record)
        assert stack.health()["status"] == "ok"
        assert not stack.events("worker_lost")
        check_timestamps(await call.record)
        placed = [datetime.fromisoformat(line["timestamp"]) for line in stack.events("call_placed")]
        assert (placed[1] - placed[0]).total_seconds() > ALMOST_AN_HOUR_S  # it did jump
        await stack.until_idle()


def check_timestamps(record: CallRecord) -> None:
    """The RTP timestamps have gone on as the monotonic clock has, within 100 ms."""
    first, last = record.packets[0], record.packets[-1]
    by_timestamp_ms = (last.timestamp - first.timestamp) % (1 << 32) / 8
    assert abs(by_timestamp_ms - (last.at_ns - first.at_ns) / 1e6) < 100


@pytest.mark.parametrize("sink", ["a full pipe", "a full disk"])
async def test_logs_cannot_be_written(sink: str) -> None:
    """Row 39: audio, /health, new calls and even a worker's death go on without any log."""
    reader, writer = full_pipe() if sink == "a full pipe" else (-1, os.open("/dev/full", os.O_RDWR))
    try:
        with RunningStack(settings={"LOG_LEVEL": "DEBUG"}, start=("asterisk", "agent")) as stack:
            stack.supervisor = PartWithFullLog(stack.supervisor, writer)
            stack.start_supervisor()
            await check_service(stack)
            code, seconds = await stack.stop_supervisor()
            assert code == 0
            assert seconds < 5
    finally:
        os.close(writer)
        if reader >= 0:
            os.close(reader)


async def check_service(stack: RunningStack) -> None:
    """A call, another one beside it, and a worker that dies."""
    async with stack.calling() as call:
        await stack.until_up()
        async with stack.calling() as another:
            await stack.until_up(2)
            await stack.until_audio(another)
        check_unbroken(await another.record)
        assert stack.http("GET", "/health")[0] == 200
        busy = next(worker["worker"] for worker in stack.workers() if worker["calls"])
        died_at_ns = time.monotonic_ns()
        stack.kill_worker(busy)
        await stack.until_audio(call)
        assert call.heard_since(died_at_ns)
        await stack.until(stack.is_ok, "the worker is replaced")
    assert (await call.record).ended_by == "caller"
    await stack.until_idle()


def full_pipe() -> tuple[int, int]:
    """A pipe whose writer blocks: the reader never reads."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(PIPE_BYTES))
    except BlockingIOError:
        os.set_blocking(writer, True)
    return reader, writer
