"""`python -m loadtest.conformance` as a program."""

import asyncio
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest

from tests.loadtest import conformance_bots as bots

CHECKOUT = Path(__file__).parents[2]
LIMIT_S = 120.0


async def run(*arguments: str) -> tuple[int | None, list[str]]:
    """Run it; returns the exit code and all lines that it has printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtest.conformance", *arguments),
        cwd=CHECKOUT,
        stdout=PIPE,
        stderr=STDOUT,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode().splitlines()


async def test_this_project_conforms() -> None:
    """`--self`: the sample voice agent and this stack's side, all of it passed."""
    code, lines = await run("--self", "--silence", "1", "--patience", "1.5", "--utterance", "0.5")
    assert lines[-1].endswith(" passed, 0 failed"), "\n".join(lines)
    assert int(lines[-1].split()[0]) > 45
    assert code == 0
    assert sum(line.startswith("n/a") for line in lines) == 2


async def test_a_bot_that_fails() -> None:
    """Exit code 1, and under the check's line what was expected and what came."""
    async with bots.running(bots.BrokenBot) as url:
        code, lines = await run(url)
    assert code == 1
    assert lines[1].startswith("failed  accepts-the-websocket: ")
    assert lines[2] == (
        "        expected the stream open, or closed with 1000, after connected and start; "
        "came close code 1011 (the bot broke)"
    )
    assert lines[-1] == "0 passed, 1 failed"


async def test_nobody_there() -> None:
    """The first check says so, and is the only one."""
    code, lines = await run("ws://127.0.0.1:1/media")
    assert code == 1
    assert lines[0] == "The bot at ws://127.0.0.1:1/media"
    assert lines[1].startswith("failed  accepts-the-websocket: ")
    assert "ConnectionRefusedError" in lines[2]
    assert lines[-1] == "0 passed, 1 failed"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "one of a URL and --self is needed"),
        (("ws://127.0.0.1/", "--self"), "one of a URL and --self is needed"),
        (("http://127.0.0.1/",), "url is 'http://127.0.0.1/', allowed is ws://host[:port]/"),
        (("ws://:80/",), "url is 'ws://:80/', allowed is"),
        (("ws://a/", "--silence", "-1"), "--silence is -1.0, allowed is"),
        (("wss://a/", "--ca-file", "/nowhere"), "--ca-file is '/nowhere'"),
    ],
)
async def test_bad_arguments(arguments: tuple[str, ...], message: str) -> None:
    """One line that names the value and what is allowed, exit code 2."""
    code, lines = await run(*arguments)
    assert code == 2
    assert message in lines[-1]
