"""Calls that we place, on the real Asterisk: what becomes of them, and who is told."""

import pytest

from loadtest.callee_plan import CalleePlan
from supervisor.phone.phone_call import CallStatus, Hangup
from tests.calls.rig import phone_rig

pytestmark = pytest.mark.asterisk

PAUSE = "<Response><Pause length='60'/></Response>"


@pytest.mark.usefixtures("asterisk_rootfs")
async def test_outcomes() -> None:
    """Completed, busy, no answer, failed, canceled; with callbacks, in order and signed."""
    async with phone_rig() as rig:
        for plan, status, events in (
            (CalleePlan(seconds=1.0), CallStatus.COMPLETED, 4),
            (CalleePlan(status=486), CallStatus.BUSY, 3),
            (CalleePlan(status=480), CallStatus.NO_ANSWER, 3),
            (CalleePlan(status=404), CallStatus.FAILED, 3),
        ):
            rig.site.asked.clear()
            rig.phone.callee = plan
            call = await rig.create(PAUSE)
            await rig.until_status(call.sid, status)
            await rig.until(lambda: len(rig.site.asked) >= events, "callbacks")  # noqa: B023
            forms = rig.site.of("/status")
            assert [form["SequenceNumber"] for form in forms] == [str(n) for n in range(len(forms))]
            assert forms[0]["CallStatus"] == "queued"
            assert forms[-1]["CallStatus"] == status.value
            assert all(asked.signed for asked in rig.site.asked)
        rig.phone.callee = CalleePlan(status=None)
        call = await rig.create(PAUSE)
        await rig.until_status(call.sid, CallStatus.RINGING)
        await rig.calls.direct(call.sid, Hangup())
        await rig.until_status(call.sid, CallStatus.CANCELED)
        await rig.until_empty()
