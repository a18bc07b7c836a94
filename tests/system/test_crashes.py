"""What a crash leaves behind: no core dump, and of an exception a line of the log, masked."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.asterisk_instance import AsteriskInstance
from tests.shim.harness import WorkerHarness
from tests.supervisor.stack import RunningStack

CHECKOUT = Path(__file__).parents[2]
NUMBER = "+15557654321"
CRASH = f"raise LookupError('no way to {NUMBER}')"
IN_THREAD = f"""
import threading
def fail():
    {CRASH}
thread = threading.Thread(target=fail)
thread.start()
thread.join()
"""
IN_TASK = f"""
import asyncio
async def fail():
    {CRASH}
async def main():
    task = asyncio.create_task(fail(), name="call of {NUMBER}")
    await asyncio.sleep(0)
    del task
asyncio.run(main())
"""
WHEN_COLLECTED = f"""
class Leg:
    def __del__(self):
        {CRASH}
Leg()
"""
SET_UP = {
    "shim": "from shim import log_setup; log_setup.configure('json', 'INFO', process='worker')\n",
    "voice_agent": "from voice_agent import log_setup; log_setup.configure()\n",
}


@pytest.fixture
def dumps_allowed() -> Iterator[None]:
    """As on a machine where processes may dump core."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard == 0:
        pytest.skip("core dumps are forbidden to this process, so nothing would show")
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def dumps_core(process: "subprocess.Popen[bytes] | None") -> bool:
    """Kill it as a wild pointer does; whether the kernel wrote its memory down."""
    assert process is not None
    process.send_signal(signal.SIGSEGV)
    _, status = os.waitpid(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == -signal.SIGSEGV
    return os.WCOREDUMP(status)


def test_a_crash_would_show(dumps_allowed: None, tmp_path: Path) -> None:
    """A program that doesn't forbid it dumps core here."""
    command = [sys.executable, "-c", "print(flush=True); import time; time.sleep(60)"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert dumps_core(process)


@pytest.mark.parametrize("allowed", [False, True])
async def test_a_worker_dumps_core_only_if_told_to(
    dumps_allowed: None, allowed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CORE_DUMPS says so, and it isn't set."""
    monkeypatch.setattr("tests.shim.harness.REPOSITORY", tmp_path)
    environ = {"PYTHONPATH": str(CHECKOUT)} | ({"CORE_DUMPS": "true"} if allowed else {})
    async with WorkerHarness(environ) as harness:
        worker = await harness.spawn()
        assert dumps_core(worker.process) is allowed


def test_the_other_processes_dump_no_core(dumps_allowed: None) -> None:
    """Supervisor and voice agent."""
    with RunningStack() as stack:
        for part in (stack.supervisor, stack.agent):
            assert not dumps_core(part.process)


@pytest.mark.asterisk
def test_asterisk_may_not_dump_core(
    dumps_allowed: None, asterisk_rootfs: Path, tmp_path: Path
) -> None:
    """The one that we start has what is said in its memory, too.

    It is asked for its limit, as it stands in a directory where a dump could not be written here.
    """
    with AsteriskInstance(tmp_path) as instance:
        assert instance.process
        limits = (Path("/proc") / str(instance.process.pid) / "limits").read_text()
    [line] = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert line.split()[4:6] == ["0", "0"]


@pytest.mark.parametrize("package", SET_UP)
@pytest.mark.parametrize(
    ("crash", "event", "code"),
    [(CRASH, "crashed", 1), (IN_THREAD, "crashed", 0), (IN_TASK, "library", 0)],
)
def test_an_exception_is_a_masked_line(package: str, crash: str, event: str, code: int) -> None:
    """It is told in one line of JSON, with a traceback, without the number."""
    ended = subprocess.run(
        [sys.executable, "-c", SET_UP[package] + crash],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout) == (code, "")
    [line] = map(json.loads, ended.stderr.splitlines())
    assert line["event"] == event
    assert "LookupError: no way to ***" in line["exception"]
    assert NUMBER.lstrip("+") not in ended.stderr


def test_so_is_one_that_nobody_can_catch() -> None:
    """As from a destructor."""
    command = [sys.executable, "-c", SET_UP["shim"] + WHEN_COLLECTED]
    ended = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    [line] = map(json.loads, ended.stderr.splitlines())
    assert (line["event"], "no way to ***" in line["exception"]) == ("crashed", True)
