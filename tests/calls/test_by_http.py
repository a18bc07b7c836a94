"""Calls on the real Asterisk by HTTP: with the official Twilio package, and beyond it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
from twilio.http.http_client import TwilioHttpClient  # type: ignore[import-untyped]  # it has no types
from twilio.rest import Client  # type: ignore[import-untyped]  # it has no types

from loadtest.callee_plan import CalleePlan
from supervisor.phone.phone_call import CallStatus
from tests.calls.rig import NUMBER, PhoneRig, phone_rig, tone
from tests.calls.web import TOKEN
from tests.shim import recordings

pytestmark = [pytest.mark.asterisk, pytest.mark.usefixtures("asterisk_rootfs")]

T = TypeVar("T")
ACCOUNT = "AC" + "0" * 32
CALLER = "+15550001111"
LONG_PAUSE = '<Response><Pause length="60"/></Response>'


def base_of(rig: PhoneRig) -> str:
    """Where the supervisor serves HTTP."""
    return f"http://127.0.0.1:{rig.stack.environment['HTTP_PORT']}"


@contextmanager
def sdk_of(rig: PhoneRig) -> Iterator[Callable[[Callable[[Client], T]], Any]]:
    """Has the package do something, in a thread as it blocks."""
    http = TwilioHttpClient()
    client = Client(ACCOUNT, TOKEN, http_client=http)
    client.api.base_url = base_of(rig)

    async def do(work: Callable[[Client], T]) -> T:
        return await asyncio.to_thread(work, client)

    yield do
    if http.session is not None:
        http.session.close()


async def test_a_call_s_life_in_the_package_s_words() -> None:
    """Create, fetch, new TwiML, list, hang up: the phone rings, is connected, and hears the end."""
    async with phone_rig() as rig:
        rig.phone.callee = CalleePlan(audio=tone(400), audio_loop=True)
        with sdk_of(rig) as do:
            created = await do(
                lambda client: client.calls.create(to=NUMBER, from_=CALLER, twiml=LONG_PAUSE)
            )
            assert (created.status, created.direction) == ("queued", "outbound-api")
            party = await rig.taken()
            await rig.until_status(created.sid, CallStatus.IN_PROGRESS)
            fetched = await do(lambda client: client.calls(created.sid).fetch())
            assert (fetched.status, fetched.to) == ("in-progress", NUMBER)
            stream = f'<Response><Connect><Stream url="{rig.stream_url}"/></Connect></Response>'
            await do(lambda client: client.calls(created.sid).update(twiml=stream))
            await rig.until_hears(party, 400)  # the new script's voice server says it back
            listed = await do(lambda client: client.calls.list(status="in-progress"))
            assert [call.sid for call in listed] == [created.sid]
            ended = await do(lambda client: client.calls(created.sid).update(status="completed"))
            assert ended.sid == created.sid
            await rig.until_status(created.sid, CallStatus.COMPLETED)
            assert (await party.record).ended_by == "caller"
            over = await do(lambda client: client.calls(created.sid).fetch())
            assert int(over.duration) >= 0
            assert await do(lambda client: client.calls(created.sid).delete())
        await rig.until_empty()


@pytest.mark.parametrize(
    ("callee", "more", "status"),
    [
        (CalleePlan(), {"twiml": "<Response><Hangup/></Response>"}, "completed"),
        (CalleePlan(status=486), {"twiml": LONG_PAUSE}, "busy"),
        (CalleePlan(status=None), {"twiml": LONG_PAUSE, "timeout": 1}, "no-answer"),
        (CalleePlan(status=404), {"twiml": LONG_PAUSE}, "failed"),
        (CalleePlan(status=None), {"twiml": LONG_PAUSE}, "canceled"),
    ],
)
async def test_the_five_outcomes(callee: CalleePlan, more: dict[str, Any], status: str) -> None:
    """As the package shows them."""
    async with phone_rig() as rig:
        rig.phone.callee = callee
        with sdk_of(rig) as do:
            call = await do(lambda client: client.calls.create(to=NUMBER, from_=CALLER, **more))
            if status == "canceled":
                await rig.until_status(call.sid, CallStatus.RINGING)
                await do(lambda client: client.calls(call.sid).update(status="canceled"))
            await rig.until_status(call.sid, CallStatus(status))
            assert (await do(lambda client: client.calls(call.sid).fetch())).status == status
        await rig.until_empty()


@asynccontextmanager
async def http_of(rig: PhoneRig) -> AsyncIterator[aiohttp.ClientSession]:
    """A client with the account's credentials."""
    headers = {"Authorization": aiohttp.encode_basic_auth(ACCOUNT, TOKEN)}
    async with aiohttp.ClientSession(base_of(rig), headers=headers) as session:
        yield session


async def test_a_call_is_recorded_on_demand(tmp_path: Path) -> None:
    """From the order to record until the order to stop, and not before."""
    settings = recordings.settings(tmp_path / "recordings")
    async with phone_rig(**settings) as rig, http_of(rig) as http:
        rig.phone.callee = CalleePlan(audio=tone(400), audio_loop=True)
        call = await rig.create()
        party = await rig.taken()
        await rig.until_hears(party, 400)
        assert recordings.files(tmp_path / "recordings") == []
        await order(http, call.sid, "recording", on=True)
        await rig.until(lambda: recordings.files(tmp_path / "recordings"), "a recording begins")
        await rig.until_hears(party, 400)
        await order(http, call.sid, "recording", on=False)
        await rig.until(
            lambda: recordings.files(tmp_path / "recordings", ".last.rec"), "the recording ends"
        )
        await rig.until_hears(party, 400)
        party.hang_up()
        await rig.until_status(call.sid, CallStatus.COMPLETED)
        await rig.until_empty()


async def test_recording_that_is_off_is_refused() -> None:
    """The answer names the setting."""
    async with phone_rig() as rig, http_of(rig) as http:
        call = await rig.create()
        party = await rig.taken()
        await rig.until_status(call.sid, CallStatus.IN_PROGRESS)
        async with http.post(f"/calls/{call.sid}/recording", json={"on": True}) as answer:
            assert answer.status == 400
            assert "RECORDING_DIR is not set" in (await answer.json())["message"]
        party.hang_up()
        await rig.until_empty()


async def test_a_transfer_to_a_forbidden_number_is_refused() -> None:
    """At once, so that the call goes on as it was."""
    async with phone_rig() as rig, http_of(rig) as http:
        rig.phone.callee = CalleePlan(audio=tone(400), audio_loop=True)
        call = await rig.create()
        party = await rig.taken()
        await rig.until_hears(party, 400)
        body = {"target": "+4930123456"}
        async with http.post(f"/calls/{call.sid}/transfer", json=body) as answer:
            assert (answer.status, (await answer.json())["code"]) == (403, 21215)
        await rig.until_hears(party, 400)
        party.hang_up()
        await rig.until_status(call.sid, CallStatus.COMPLETED)
        await rig.until_empty()


async def order(http: aiohttp.ClientSession, sid: str, operation: str, **body: object) -> None:
    """One of our own operations, which must succeed."""
    async with http.post(f"/calls/{sid}/{operation}", json=body) as answer:
        assert answer.status == 200, await answer.text()
