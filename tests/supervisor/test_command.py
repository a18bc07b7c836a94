"""Operators' commands, and what a supervisor makes of keys and an audit log."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.api.access import read_keys
from supervisor.api.audit_chain import Deed, Head, append
from tests.supervisor.rest_rig import ACCOUNT, AUTH_TOKEN
from tests.supervisor.stack import RunningStack


def command(*arguments: str) -> tuple[int, str]:
    """Run one; exit code, and what it printed."""
    ran = subprocess.run(
        [sys.executable, "-m", "supervisor.command", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return ran.returncode, ran.stdout + ran.stderr


def test_a_key() -> None:
    """It prints the secret, and a line for the file that has only its hash."""
    code, printed = command("key", "dashboard", "read")
    assert code == 0
    _, key_id, secret, _, _, line = printed.splitlines()
    key = read_keys(line)[key_id]
    assert (key.actor.name, key.actor.role.name) == ("dashboard", "READ")
    assert key.hash.matches(secret)
    code, printed = command("key", "dashboard", "root")
    assert (code, printed) == (1, "the role 'root'; allowed is read or operate or admin\n")


def test_checking_a_chain(tmp_path: Path) -> None:
    """Whole: 0, and the head. Broken: 1, and the first line that is."""
    path = tmp_path / "audit.jsonl"
    head, lines = Head(), []
    for _ in range(3):
        line, head = append(head, Deed("call.hangup", "done"), 1e9)
        lines.append(line)
    path.write_bytes(b"".join(lines))
    assert command("audit-verify", str(path)) == (
        0,
        f"{path}: 3 lines, whole; head 3 {head.hash}\n",
    )
    path.write_bytes(lines[0] + lines[1].replace(b"done", b"gone") + lines[2])
    assert command("audit-verify", str(path)) == (
        1,
        f"{path}: line 2 is broken: it was changed\n",
    )
    assert command("audit-verify", str(tmp_path / "missing"))[0] == 1


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[RunningStack]:
    """A supervisor with an audit log."""
    settings = {
        "AUDIT_LOG": str(tmp_path / "audit.jsonl"),
        "TWILIO_ACCOUNT_SID": ACCOUNT,
        "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
    }
    with RunningStack(settings=settings) as running:
        yield running


def entries(path: Path) -> list[dict[str, Any]]:
    """The audit log's lines."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


async def test_the_audit_log_of_a_supervisor(stack: RunningStack) -> None:
    """Restarts and strangers are in it, over a SIGKILL and an orderly end; the chain is whole."""
    path = Path(stack.environment["AUDIT_LOG"])
    assert stack.http("GET", "/anything", token="guessed")[0] == 401
    assert await stack.command("restart", "0") == 0
    await stack.until(lambda: len(entries(path)) == 2, "both are written")
    assert stack.health()["audit"]["written"] == 2
    await stack.restart_supervisor()
    assert await stack.command("health") == 0
    assert await stack.command("restart", "1") == 0
    assert (await stack.stop_supervisor())[0] == 0
    told = entries(path)
    assert [(each["actor"], each["action"], each["outcome"]) for each in told] == [
        ("unknown", "unknown", "denied:20003"),
        ("api-token", "worker.restart", "done"),
        ("api-token", "worker.restart", "done"),
    ]
    assert command("audit-verify", str(path))[0] == 0


async def test_drain_by_command(stack: RunningStack) -> None:
    """No new calls until it is undone; those that are up go on. SIGKILL forgets it."""
    async with stack.calling() as call:
        assert await stack.command("drain") == 0
        assert stack.health()["status"] == "draining"
        await stack.check_refused()
        await stack.until_audio(call)
        assert await stack.command("undrain") == 0
        assert stack.health()["status"] == "ok"
        async with stack.calling():
            await stack.until_up(calls=2)
        assert await stack.command("drain") == 0
        await stack.restart_supervisor()
        assert stack.health()["status"] == "ok"
        await stack.until_audio(call)
    await stack.until_idle()


async def test_scripts_take_nobody_while_draining(tmp_path: Path) -> None:
    """The dialplan's fallback has callers whose number has a script, as all others."""
    routes = tmp_path / "routes.json"
    (tmp_path / "a.xml").write_text("<Response><Pause length='600'/></Response>")
    routes.write_text(json.dumps({"*": {"twiml_file": "a.xml"}}))
    with RunningStack(settings={"INBOUND_SCRIPTS": str(routes)}) as stack:
        assert stack.http("POST", "/drain")[0] == 200
        await stack.check_refused()
        assert {event["reason"] for event in stack.events("call_refused")} == {"draining"}
        assert stack.events("phone_call") == []  # no script was begun
        refused = 'ots_calls_refused_total{reason="draining"} 1.0'
        assert refused in stack.http("GET", "/metrics")[1]
        assert stack.http("DELETE", "/drain")[0] == 200


async def test_no_drain_at_the_end(stack: RunningStack) -> None:
    """What SIGTERM has begun can't be taken back."""
    stack.environment["DRAIN_SECONDS"] = "60"
    await stack.restart_supervisor()
    async with stack.calling():
        await stack.until_up()
        stack.supervisor.send(signal.SIGTERM)
        await stack.until(lambda: stack.health()["status"] == "draining", "draining")
        status, body = stack.http("DELETE", "/drain")
        assert status == 409
        assert "about to end" in body
    assert await stack.exit_code() == 0
