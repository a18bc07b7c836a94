"""SIGTERM while scripts run, on the real Asterisk."""

import json
from pathlib import Path

import pytest

from loadtest.phone_plan import CallPlan
from supervisor.phone.phone_call import CallQuery, CallRejected, CallStatus
from tests.calls.rig import phone_rig

pytestmark = [pytest.mark.asterisk, pytest.mark.usefixtures("asterisk_rootfs")]


async def test_callers_go_on_in_the_dialplan(tmp_path: Path) -> None:
    """An inbound caller in a script hears the dialplan; a placed call is hung up."""
    (tmp_path / "a.xml").write_text("<Response><Pause length='600'/></Response>")
    file = tmp_path / "routes.json"
    file.write_text(json.dumps({"100": {"twiml_file": "a.xml"}}))
    async with phone_rig(INBOUND_SCRIPTS=str(file), DRAIN_SECONDS="0") as rig:
        to = f"sip:100@127.0.0.1:{rig.stack.environment['SIP_PORT']}"
        caller = rig.phone.start(CallPlan(to=to))
        await rig.create("<Response><Pause length='600'/></Response>")
        placed = await rig.taken()
        up = CallQuery(status=CallStatus.IN_PROGRESS)
        await rig.until(lambda: len(rig.calls.find(up)) == 2, "both are up")
        calls = rig.calls.find(CallQuery())
        rig.terminate()
        await rig.until_hears(caller, 600)
        assert (await placed.record).ended_by == "caller"
        await rig.until(lambda: all(call.status.is_final for call in calls), "all are over")
        with pytest.raises(CallRejected, match="draining"):
            await rig.create("<Response/>")
        caller.hang_up()
        await caller.record
