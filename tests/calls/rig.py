"""Phone calls under test: a supervisor in this process, the real Asterisk, phones, a web server.

async with phone_rig() as rig:
    rig.phone.callee = CalleePlan(status=486)
    call = await rig.create("<Response/>")
    await rig.until_status(call.sid, CallStatus.BUSY)
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from loadtest import audio, recording
from loadtest.callee_plan import CalleePlan
from loadtest.sip_phone import ActiveCall, SipPhone, TakenCall
from loadtest.stack import POLL_S, Stack
from shim import environment
from supervisor.config import SupervisorConfig
from supervisor.phone.phone_call import CallOrder, CallStatus, PhoneCall, Script, StatusCallback
from supervisor.phone.phone_calls import AllPhoneCalls
from supervisor.supervise import Setup, Supervisor
from tests.calls.web import TOKEN, WebSite, web_site
from tests.supervisor.stack import look_for_phi

NUMBER = "+15551234567"
PATIENCE_S = 20.0
SILENCE = {0xFF, 0x7F}
ALL_EVENTS = frozenset({"initiated", "ringing", "answered", "completed"})


class PhoneRig:
    """What a test of phone calls has at hand. `phone` is called, and can call."""

    def __init__(self, stack: Stack, phone: SipPhone, site: WebSite) -> None:
        self.stack = stack
        self.phone = phone
        self.site = site
        self.calls: AllPhoneCalls

    @property
    def stream_url(self) -> str:
        """The voice server that echoes."""
        return self.site.base.replace("http", "ws") + "/stream"

    async def create(self, twiml: str = "", **more: object) -> PhoneCall:
        """Place a call to the phone, with all status callbacks to /status."""
        callback = StatusCallback(f"{self.site.base}/status", events=ALL_EVENTS)
        script = Script(twiml=twiml)
        order = CallOrder(NUMBER, "+15550001111", script, callback=callback, **more)  # type: ignore[arg-type]
        return await self.calls.create(order)

    async def taken(self) -> TakenCall:
        """The next call that comes to the phone."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.phone.taken.get()

    def terminate(self) -> None:
        """SIGTERM for the supervisor, which lives in this process; at the end it gets another."""
        os.kill(os.getpid(), signal.SIGTERM)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Poll until the condition holds; fail with the log when time is over."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            log = self.stack.asterisk.log[-2000:]
            assert time.monotonic() < deadline, f"not in time: {what}\n{log}"
            await asyncio.sleep(POLL_S)

    async def until_status(self, sid: str, status: CallStatus) -> PhoneCall:
        """Wait until a call is there; fail if it is over in another way."""
        call = self.calls.fetch(sid)
        assert call is not None
        await self.until(lambda: call.status is status or call.status.is_final, f"{status}")
        assert call.status is status, f"{call.status}: {call.reason}"
        return call

    async def until_hears(self, call: ActiveCall | TakenCall, *tones_hz: float) -> None:
        """Wait until somebody hears just these tones, in what arrives from now on."""
        since_ns = asyncio.get_running_loop().time() * 1e9

        def hears() -> bool:
            packets = call.heard_since(int(since_ns))[-25:]
            heard = recording.tones_hz(recording.timeline(packets), min_share=0.1)
            near = [min((abs(tone - hz) for hz in heard), default=999) < 15 for tone in tones_hz]
            return len(packets) == 25 and len(heard) == len(tones_hz) and all(near)

        await self.until(hears, f"tones {tones_hz}")

    async def until_quiet(self, call: ActiveCall | TakenCall) -> None:
        """Wait until somebody hears nothing for half a second: silence, or no packets."""

        def is_quiet() -> bool:
            latest = call.heard_since(time.monotonic_ns() - 500_000_000)
            return all(set(packet.payload) <= SILENCE for packet in latest)

        await self.until(is_quiet, "quiet")

    async def until_empty(self) -> None:
        """Wait until Asterisk has no channel and no bridge any more."""
        left = self.stack.left_in_asterisk
        await self.until(lambda: not any(left().values()), "Asterisk is empty")


def tone(hz: float) -> bytes:
    """A second of a tone, to be repeated; `hz` a whole number."""
    return audio.tone(hz, 1.0)


@asynccontextmanager
async def phone_rig(**settings: str) -> AsyncIterator[PhoneRig]:
    """Everything, up and connected."""
    async with SipPhone(callee=CalleePlan()) as phone, web_site() as site:
        own = {
            "OUTBOUND_ENDPOINT": f"PJSIP/local-phone/sip:{{number}}@127.0.0.1:{phone.address[1]}",
            "OUTBOUND_PREFIXES": "+1555:1000:100,sip:1000:100",
            "OUTBOUND_PER_SECOND": "100",
            "WEBHOOK_HOSTS": "127.0.0.1",
            "TWILIO_AUTH_TOKEN": TOKEN,
            "WORKERS": "1",
            "ECS_MEDIA_WSS_URL": f"{site.base.replace('http', 'ws')}/stream",
        }
        stack = Stack(real=True, settings=own | settings)
        rig = PhoneRig(stack, phone, site)
        try:
            await asyncio.to_thread(stack.start_asterisk)
            async with running_supervisor(stack) as supervisor:
                rig.calls = supervisor.phones
                yield rig
        finally:
            await asyncio.to_thread(stack.__exit__)


@asynccontextmanager
async def running_supervisor(stack: Stack) -> AsyncIterator[Supervisor]:
    """A supervisor in this process, until it has drained."""
    variables = {**os.environ, **stack.environment}
    config = environment.read(SupervisorConfig, variables)
    config.run_path().mkdir(parents=True, exist_ok=True)
    cpus = config.worker_cpus(sorted(os.sched_getaffinity(0)))
    setup = Setup(config, cpus, variables)
    supervisor = Supervisor(setup, lambda: setup)
    running = asyncio.create_task(supervisor.run())
    try:
        await asyncio.to_thread(stack.wait_until, stack.is_well, PATIENCE_S, "it isn't ok")
        yield supervisor
        await asyncio.to_thread(look_for_phi, stack)
    finally:
        if not running.done():
            os.kill(os.getpid(), signal.SIGTERM)
        await running
