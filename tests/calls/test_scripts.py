"""TwiML of inbound callers, on the real Asterisk."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from loadtest.audio import write_wav
from loadtest.callee_plan import CalleePlan
from loadtest.phone_plan import CallPlan
from loadtest.sip_phone import ActiveCall
from loadtest.stack import POLL_S
from supervisor.phone.phone_call import CallQuery, CallStatus, Hangup, NewScript, Script
from tests.calls.rig import NUMBER, PATIENCE_S, PhoneRig, phone_rig, tone
from tests.calls.web import web_site

EVENTS = ["stream-started", "stream-stopped"]
PLAY_THEN_STREAM = b"""<Response>
  <Say>skipped</Say><Play loop="2">/tone.wav</Play><Play digits="1w2"/>
  <Connect action="/after"><Stream url="WS" statusCallback="/events">
    <Parameter name="k" value="v"/></Stream></Connect>
</Response>"""

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


async def test_webhook_play_stream_action(tmp_path: Path) -> None:
    """A webhook's script: redirect, a sound that is heard, digits, a stream, and its action."""
    file = tmp_path / "routes.json"
    async with web_site() as site:
        rules = {"100": {"url": f"{site.base}/start"}, "*": {"stream": "ws://127.0.0.1:1/none"}}
        file.write_text(json.dumps(rules))
        sounds = str(tmp_path / "sounds")
        async with phone_rig(INBOUND_SCRIPTS=str(file), SOUNDS_DIR=sounds) as rig:
            write_wav(tmp_path / "tone.wav", tone(700))
            site.pages |= {
                "/start": b"<Response><Redirect>/second</Redirect></Response>",
                "/second": PLAY_THEN_STREAM.replace(b"WS", rig.stream_url.encode()),
                "/tone.wav": (tmp_path / "tone.wav").read_bytes(),
                "/after": b"<Response><Hangup/></Response>",
            }
            caller = call(rig, "100", audio=tone(400), audio_loop=True)
            await rig.until_hears(caller, 700)
            await rig.until_hears(caller, 400)
            (start,) = rig.site.starts
            assert start["customParameters"]["k"] == "v"  # type: ignore[index]
            (phone_call,) = rig.calls.find(CallQuery())
            assert start["callSid"] == phone_call.sid
            for socket in rig.site.sockets:
                await socket.close()
            assert (await caller.record).ended_by == "callee"
            form = site.of("/start")[0]
            assert (form["CallStatus"], form["Direction"]) == ("ringing", "inbound")
            assert form["To"] == "100"
            assert [asked.path for asked in site.asked if not asked.signed] == []
            assert [f["StreamEvent"] for f in site.of("/events")] == EVENTS
            assert "StreamSid" in site.of("/after")[0]
            await rig.until_status(phone_call.sid, CallStatus.COMPLETED)


async def test_reject_and_failing_scripts(tmp_path: Path) -> None:
    """A rejected call is busy, and was never answered; without a script the dialplan goes on."""
    (tmp_path / "busy.xml").write_text("<Response><Reject reason='busy'/></Response>")
    rules = {"100": {"twiml_file": "busy.xml"}, "200": {"url": "http://127.0.0.1:1/none"}}
    file = routes(tmp_path, **rules)
    async with phone_rig(INBOUND_SCRIPTS=file, ANSWER_CALLS="script") as rig:
        record = await call(rig, "100").record
        assert (record.outcome, record.status) == ("refused", 486)
        caller = call(rig, "200")
        await rig.until_hears(caller, 600)  # the dialplan's tone
        caller.hang_up()
        calls = rig.calls.find(CallQuery())
        await rig.until(lambda: all(each.status.is_final for each in calls), "both are over")
        plain = call(rig, "300", audio=tone(400), audio_loop=True)
        await rig.until_hears(plain, 400)  # straight to the stream, answered by the supervisor


async def test_new_rules_count_after_sighup(tmp_path: Path) -> None:
    """Those for calls to come, and the hosts that they name may be asked."""
    async with phone_rig(INBOUND_SCRIPTS=routes(tmp_path), ANSWER_CALLS="script") as rig:
        rig.site.pages["/busy"] = b"<Response><Reject reason='busy'/></Response>"
        url = f"{rig.site.base.replace('127.0.0.1', 'localhost')}/busy"  # not in WEBHOOK_HOSTS
        routes(tmp_path, **{"100": {"url": url}})
        before = await worker_pids(rig)
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(PATIENCE_S):
            while await worker_pids(rig) == before:  # noqa: ASYNC110  # it is in other processes
                await asyncio.sleep(POLL_S)
        record = await call(rig, "100").record
        assert (record.outcome, record.status) == ("refused", 486)


async def worker_pids(rig: PhoneRig) -> list[int]:
    """The processes that take calls."""
    return [worker["pid"] for worker in await asyncio.to_thread(rig.stack.workers)]


async def test_stream_then_new_script(tmp_path: Path) -> None:
    """A stream that TwiML asks for echoes; a new script ends it and goes on."""
    async with phone_rig(INBOUND_SCRIPTS="") as rig:
        twiml = f"<Response><Connect><Stream url='{rig.stream_url}'/></Connect></Response>"
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
