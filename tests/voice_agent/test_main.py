"""`python -m voice_agent` as a process."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from loadtest.realtime_stand_in import RealtimeStandIn
from tests.voice_agent.stream_client import StreamClient
from voice_agent.mulaw import silence
from voice_agent.sounds import GREETING, tone

ROOT = Path(__file__).parents[2]


async def start(folder: Path, **settings: str) -> Process:
    """Start the program with these settings and no others."""
    inherited = {name: value for name, value in os.environ.items() if "AGENT" not in name}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "voice_agent",
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(ROOT)} | settings,
        stderr=PIPE,
    )


@asynccontextmanager
async def running(folder: Path, **settings: str) -> AsyncIterator[tuple[Process, int]]:
    """The program and its port, once it listens."""
    process = await start(folder, VOICE_AGENT_PORT="0", **settings)
    try:
        assert process.stderr
        async with asyncio.timeout(10):
            line = json.loads(await process.stderr.readline())
        assert line["event"] == "listening", line
        yield process, line["port"]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it(tmp_path: Path, number: signal.Signals) -> None:
    """With exit code 0, within 3 s, calls closed with 1001, and all of it in the log."""
    async with running(tmp_path) as (process, port), StreamClient(port) as client:
        await client.begin(caller="+15550100")
        assert await client.hear_and_return() == GREETING
        process.send_signal(number)
        assert await client.closed() == (1001, "the voice server stops")
        async with asyncio.timeout(3):
            assert await process.wait() == 0
        assert process.stderr
        lines = (await process.stderr.read()).decode().splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert events == ["call_started", "stopping", "call_ended", "stopped"]
    assert "+15550100" not in "".join(lines)


async def test_a_connection_that_asks_for_nothing_does_not_hold_up_the_end(
    tmp_path: Path,
) -> None:
    """Nor does it fill the log with tracebacks."""
    async with running(tmp_path) as (process, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        process.terminate()
        async with asyncio.timeout(3):
            assert await process.wait() == 0
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        assert process.stderr
        lines = (await process.stderr.read()).decode().splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert set(events) <= {"stopping", "stopped_with_open_connections", "stopped"}


async def failure(process: Process) -> tuple[int | None, str]:
    """Exit code and output of a program that can't start."""
    async with asyncio.timeout(10):
        _, output = await process.communicate()
    return process.returncode, output.decode()


async def test_a_bad_setting_is_one_line_and_its_own_exit_code(tmp_path: Path) -> None:
    """So that a supervisor of processes knows that trying again is no use."""
    code, output = await failure(await start(tmp_path, AGENT="gpt"))
    assert code == os.EX_CONFIG
    assert output == "voice_agent: AGENT is 'gpt': allowed is offline or openai\n"


async def test_the_model_needs_a_key(tmp_path: Path) -> None:
    """From the environment or a file; a file that can't be read is named."""
    code, output = await failure(await start(tmp_path, AGENT="openai", OPENAI_API_KEY=""))
    assert code == os.EX_CONFIG
    assert output.startswith("voice_agent: OPENAI_API_KEY is '': allowed is a key")
    missing = str(tmp_path / "missing")
    code, output = await failure(
        await start(tmp_path, AGENT="openai", OPENAI_API_KEY="", OPENAI_API_KEY_FILE=missing)
    )
    assert code == os.EX_CONFIG
    assert output.startswith(f"voice_agent: OPENAI_API_KEY_FILE is {missing!r}: allowed is ")


async def test_a_key_from_a_file_starts_the_model(tmp_path: Path) -> None:
    """Surrounding white space is no part of it, and it is not in the log."""
    key = tmp_path / "key"
    key.write_text("sk-from-file\n")
    settings = {"OPENAI_API_KEY": "", "OPENAI_API_KEY_FILE": str(key)}
    async with RealtimeStandIn() as api:
        async with (
            running(tmp_path, AGENT="openai", OPENAI_URL=api.url, **settings) as (process, port),
            StreamClient(port) as client,
        ):
            await client.begin()
            await client.hear()
            process.terminate()
            _, log = await process.communicate()
        [session] = api.sessions
        assert session.websocket.request
        assert session.websocket.request.headers["Authorization"] == "Bearer sk-from-file"
    assert b"sk-from-file" not in log


@pytest.mark.parametrize(("vad", "hears_all"), [("energy", True), ("webrtc", False)])
async def test_the_offline_agent_hears_as_is_set(tmp_path: Path, vad: str, hears_all: bool) -> None:
    """By loudness a tone is a turn; to WebRTC's detector a steady 620 Hz is noise in no time."""
    spoken = tone(620, 1500)
    async with (
        running(tmp_path, VOICE_AGENT_VAD=vad) as (_, port),
        StreamClient(port) as client,
    ):
        await client.begin()
        await client.hear_and_return()
        await client.speak(spoken + silence(1000))
        answer = await client.hear_and_return()
    assert (spoken in answer) == hears_all


async def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    """It may be free soon: exit code 1."""
    async with running(tmp_path) as (_, port):
        code, output = await failure(await start(tmp_path, VOICE_AGENT_PORT=str(port)))
    assert code == 1
    assert output.startswith("voice_agent: VOICE_AGENT_HOST '127.0.0.1', VOICE_AGENT_PORT ")
    assert output.count("\n") == 1


async def test_a_dotenv_file_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    """A bad value shows which one was taken."""
    (tmp_path / ".env").write_text("VOICE_AGENT_PORT=from-file\nAGENT=from-file\n")
    _, output = await failure(await start(tmp_path))
    assert "VOICE_AGENT_PORT is 'from-file'" in output
    _, output = await failure(await start(tmp_path, VOICE_AGENT_PORT="0", AGENT="from-env"))
    assert "AGENT is 'from-env'" in output
