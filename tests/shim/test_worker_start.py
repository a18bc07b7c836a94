"""Row 5: a worker that cannot start says why in one line, and exits with 78."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from shim import port_memory
from shim.__main__ import EXIT_CONFIG
from tests.shim.harness import WorkerHarness


async def reason_of(environ: Mapping[str, str], index: int = 0, cpu: int | None = None) -> str:
    """Start a worker that can't; returns the reason that it gives in its one line."""
    async with WorkerHarness(environ) as harness:
        worker = harness.launch(index, cpu)
        assert await worker.wait_exit() == EXIT_CONFIG == 78
        [line] = worker.log.splitlines()
        assert "worker_cannot_start" in line
        return line


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("STREAM_CONNECT_BUDGET", "soon", "float"),
        ("STREAM_CONNECT_BUDGET", "0", "> 0"),
        ("STREAM_BUFFER_SECONDS", "601.5", "int"),
        ("ORPHAN_GRACE", "1e9", "<= 3600"),
        ("LOG_FORMAT", "xml", "json or text"),
        ("LOG_LEVEL", "CHATTY", "DEBUG or INFO"),
        ("STREAM_CA_FILE", "/nonexistent.pem", "No such file"),
        ("STREAM_CLIENT_CERT", "/nonexistent.pem", "No such file"),
        ("STREAM_HOLD_SOUND", "/nonexistent.ulaw", "No such file"),
        ("RUN_DIR", "/nonexistent", "No such file"),
    ],
)
async def test_bad_environment(name: str, value: str, allowed: str) -> None:
    """The line names the variable, its value, and what is allowed or wrong."""
    line = await reason_of({name: value})
    assert name in line
    assert value in line
    assert allowed in line


async def test_secrets_stay_out_of_the_line() -> None:
    """A worker with secrets fails for another reason without showing them."""
    environ = {"TWILIO_AUTH_TOKEN": "s3cret", "STREAM_BEARER_TOKEN": "s3cret", "LOG_LEVEL": "x"}
    assert "s3cret" not in await reason_of(environ)


@pytest.mark.parametrize("index", [4, -1])
async def test_worker_without_a_record(index: int) -> None:
    """A number that is not in the port table can't have a heartbeat: no start."""
    assert f"worker {index}" in await reason_of({}, index)


@pytest.mark.parametrize("cpu", [9999, -1])
async def test_cpu_that_is_not_there(cpu: int) -> None:
    """The line names the CPU and those that may be used."""
    line = await reason_of({}, cpu=cpu)
    assert f"{cpu}" in line
    assert f"{sorted(os.sched_getaffinity(0))}" in line


@pytest.mark.parametrize("content", [b"", b"x" * 8192])
async def test_broken_port_table(content: bytes, tmp_path: Path) -> None:
    """A table of another version, or none at all, is named."""
    (tmp_path / port_memory.FILE_NAME).write_bytes(content)
    line = await reason_of({"RUN_DIR": str(tmp_path)})
    assert "is empty" in line or "magic" in line


async def test_log_lines_are_json() -> None:
    """With LOG_FORMAT=json each line is an object with an event, also the library's."""
    async with WorkerHarness({"ORPHAN_GRACE": "0.1"}) as harness:
        worker = await harness.spawn()
        harness.vanish()
        assert await worker.wait_exit() == 0
        lines = [json.loads(line) for line in worker.log.splitlines()]
        assert [line["event"] for line in lines][-2:] == ["worker_orphaned", "worker_stopped"]
        assert {line["worker"] for line in lines} == {0}
