"""What the audit log has of HTTP, and what is done while it can't be written."""

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from supervisor.api.doorkeeper import FAILURES
from supervisor.phone.phone_call import CallStatus
from tests.supervisor.rest_rig import (
    ACCOUNT,
    API_TOKEN,
    CALLS,
    RestRig,
    entries,
)

PATIENCE_S = 10.0
BEARER = f"Bearer {API_TOKEN}"
RESTART = "/workers/1/restart"
BURST = int(FAILURES.burst)


async def until(condition: Callable[[], bool]) -> None:
    """Poll to a deadline."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_what_cannot_be_recorded_is_not_done(tmp_path: Path) -> None:
    """While the log can't be written, calls can be seen and ended, and nothing else changes."""
    path = tmp_path / "log" / "audit.jsonl"
    path.parent.mkdir()
    async with RestRig(path) as rig:
        assert rig.audit is not None
        audit = rig.audit
        call = rig.calls.add(CallStatus.IN_PROGRESS)
        where = f"/2010-04-01/Accounts/{ACCOUNT}/Calls/{call.sid}.json"
        shutil.rmtree(path.parent)
        assert (await rig.ask("GET", where)).status == 200
        await until(lambda: bool(audit.problem))
        order = {"To": "+14155550123", "From": "+14155550100", "Twiml": "<Response/>"}
        answer = await rig.ask("POST", CALLS, order)
        assert (answer.status, answer.json["code"]) == (503, 20503)
        assert "audit log" in answer.json["message"]
        assert (await rig.ask("POST", where, {"Twiml": "<Response/>"})).status == 503
        assert (await rig.ask("POST", RESTART, authorization=BEARER)).status == 503
        assert (await rig.ask("GET", where)).status == 200
        assert (await rig.ask("POST", where, {"Status": "completed"})).status == 200
        health = (await rig.ask("GET", "/health")).json["audit"]
        assert health["problem"] == "No such file or directory"
        path.parent.mkdir()
        await until(lambda: audit.health().waiting == 0)
        assert (await rig.ask("POST", CALLS, order)).status == 201
    assert "call.hangup" in [each["action"] for each in entries(path)]


async def test_nothing_of_callers_in_the_audit_log(tmp_path: Path) -> None:
    """No number, no TwiML, whatever the request."""
    path = tmp_path / "audit.jsonl"
    async with RestRig(path) as rig:
        secret = "<Response><Say>insulin</Say></Response>"
        order = {"To": "+14155550199", "From": "+14155550177", "Twiml": secret}
        await rig.ask("POST", CALLS, order)
        await rig.ask("POST", CALLS, {**order, "To": "+14155550199x"})
        await rig.ask("GET", f"{CALLS}?To=%2B14155550199")
        await rig.ask("GET", "/+14155550199/insulin")
    text = path.read_text()
    assert len(text.splitlines()) == 4
    assert not any(word in text for word in ("4155550199", "4155550177", "insulin"))
