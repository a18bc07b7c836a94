"""TwiML of inbound callers, on the real Asterisk."""

import json
from pathlib import Path

import pytest

from loadtest.callee_plan import CalleePlan
from loadtest.phone_plan import CallPlan
from loadtest.sip_phone import ActiveCall
from supervisor.phone_call import CallQuery, CallStatus, Hangup, NewScript, Script
from tests.calls.rig import NUMBER, PhoneRig, phone_rig, tone

pytestmark = [pytest.mark.asterisk, pytest.mark.usefixtures("asterisk_rootfs")]


def routes(directory: Path, **rules: dict[str, str]) -> str:
    """An INBOUND_SCRIPTS file; rules by called number."""
    path = directory / "routes.json"
    path.write_text(json.dumps(rules))
    return str(path)


def call(rig: PhoneRig, number: str, **plan: object) -> ActiveCall:
    """Call a number of the stack."""
    to = f"sip:{number}@127.0.0.1:{rig.stack.environment['SIP_PORT']}"
    return rig.phone.start(CallPlan(to=to, **plan))  # type: ignore[arg-type]


async def test_dial_both_ways(tmp_path: Path) -> None:
    """The caller and the dialed party hear each other; the caller's script goes on afterwards."""
    (tmp_path / "dial.xml").write_text(
        f"<Response><Dial callerId='+15550009999'>{NUMBER}</Dial><Pause length='60'/></Response>"
    )
    file = routes(tmp_path, **{"100": {"twiml_file": "dial.xml"}})
    async with phone_rig(INBOUND_SCRIPTS=file) as rig:
        rig.phone.callee = CalleePlan(ring_seconds=0.3, audio=tone(700), audio_loop=True)
        caller = call(rig, "100", audio=tone(400), audio_loop=True)
        callee = await rig.taken()
        assert "+15550009999" in callee.invite.require("From")
        await rig.until_hears(caller, 700)
        await rig.until_hears(callee, 400)
        parent, leg = sorted(rig.calls.find(CallQuery()), key=lambda each: bool(each.parent_sid))
        assert leg.parent_sid == parent.sid
        callee.hang_up()
        await rig.until_status(leg.sid, CallStatus.COMPLETED)
        assert parent.status is CallStatus.IN_PROGRESS
        await rig.calls.direct(parent.sid, Hangup())
        assert (await caller.record).ended_by == "callee"
        await rig.until_status(parent.sid, CallStatus.COMPLETED)
        await rig.until_empty()


async def test_stream_then_new_script(tmp_path: Path) -> None:
    """A stream that TwiML asks for echoes; a new script ends it and goes on."""
    async with phone_rig(INBOUND_SCRIPTS="") as rig:
        agent = rig.stack.environment["ECS_MEDIA_WSS_URL"]
        twiml = f"<Response><Connect><Stream url='{agent}'/></Connect></Response>"
        rig.phone.callee = CalleePlan()
        placed = await rig.create(twiml)
        callee = await rig.taken()
        await rig.until(lambda: callee.heard_since(0), "the stream is heard")
        script = Script(twiml=f"<Response><Dial>{NUMBER}</Dial></Response>")
        rig.phone.callee = CalleePlan(audio=tone(700), audio_loop=True)
        await rig.calls.direct(placed.sid, NewScript(script))
        await rig.taken()
        await rig.until_hears(callee, 700)
        callee.hang_up()
        await rig.until_status(placed.sid, CallStatus.COMPLETED)
        await rig.until_empty()
