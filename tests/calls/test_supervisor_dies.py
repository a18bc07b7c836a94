"""A supervisor is killed in the middle of scripts, on the real Asterisk; the next one goes on."""

import json
from pathlib import Path

import pytest

from loadtest import recording
from loadtest.audio import write_wav
from loadtest.callee_plan import CalleePlan
from loadtest.phone_plan import CallPlan
from loadtest.sip_phone import ActiveCall, SipPhone, TakenCall
from tests.calls.rig import NUMBER, tone
from tests.calls.web import web_site
from tests.supervisor.stack import RunningStack

pytestmark = [pytest.mark.asterisk, pytest.mark.usefixtures("asterisk_rootfs")]


def hears(call: ActiveCall | TakenCall, hz: float) -> bool:
    """Whether the latest half second is just this tone."""
    packets = call.heard_since(0)[-25:]
    return recording.hears_only(recording.timeline(packets), hz)


async def test_dial_and_play_go_on(tmp_path: Path) -> None:
    """Who was connected stays so, and the script goes on after it; a sound is played again."""
    write_wav(tmp_path / "tone.wav", tone(700))
    sound = "<Response><Play loop='0'>BASE/tone.wav</Play></Response>"
    (tmp_path / "dial.xml").write_text(f"<Response><Dial>{NUMBER}</Dial><Hangup/></Response>")
    plan = CalleePlan(audio=tone(1000), audio_loop=True)
    async with web_site() as site, SipPhone(callee=plan) as phone:
        site.pages["/tone.wav"] = (tmp_path / "tone.wav").read_bytes()
        (tmp_path / "play.xml").write_text(sound.replace("BASE", site.base))
        rules = {"100": {"twiml_file": "dial.xml"}, "200": {"twiml_file": "play.xml"}}
        (tmp_path / "routes.json").write_text(json.dumps(rules))
        settings = {
            "INBOUND_SCRIPTS": str(tmp_path / "routes.json"),
            "OUTBOUND_ENDPOINT": f"PJSIP/local-phone/sip:{{number}}@127.0.0.1:{phone.address[1]}",
            "OUTBOUND_PREFIXES": "+1555",
            "SOUNDS_DIR": str(tmp_path / "sounds"),
            "WEBHOOK_HOSTS": "127.0.0.1",
        }
        with RunningStack(real=True, settings=settings) as stack:
            port = stack.environment["SIP_PORT"]
            host = f"127.0.0.1:{port}"
            plan_of = {"audio": tone(400), "audio_loop": True}
            dialing = phone.start(CallPlan(to=f"sip:100@{host}", **plan_of))  # type: ignore[arg-type]
            callee = await phone.taken.get()
            listening = phone.start(CallPlan(to=f"sip:200@{host}"))
            await stack.until(lambda: hears(dialing, 1000) and hears(callee, 400), "connected")
            await stack.until(lambda: hears(listening, 700), "the sound")
            await stack.restart_supervisor()
            await stack.until(lambda: len(stack.events("call_resumed")) >= 3, "calls resumed")
            await stack.until(
                lambda: hears(dialing, 1000) and hears(callee, 400), "still connected"
            )
            await stack.until(lambda: hears(listening, 700), "the sound again")
            callee.hang_up()
            assert (await dialing.record).ended_by == "callee"
            listening.hang_up()
            await listening.record
            await stack.until(lambda: not any(stack.left_in_asterisk().values()), "empty")
