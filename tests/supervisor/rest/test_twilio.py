"""The official Twilio package, unmodified but for where it sends its requests."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from twilio.base.exceptions import TwilioRestException  # type: ignore[import-untyped]  # it has no types
from twilio.http.http_client import TwilioHttpClient  # type: ignore[import-untyped]  # it has no types
from twilio.rest import Client  # type: ignore[import-untyped]  # it has no types

from supervisor.api.access import new_key
from supervisor.phone.phone_call import CallStatus, Hangup, NewScript, Script
from tests.supervisor.rest_rig import ACCOUNT, AUTH_TOKEN, RestRig

T = TypeVar("T")


class Sdk:
    """The package's client beside the rig; its calls block, so they run in a thread."""

    def __init__(self, rig: RestRig, user: str = ACCOUNT, secret: str = AUTH_TOKEN) -> None:
        self._http = TwilioHttpClient()
        self.client = Client(user, secret, ACCOUNT, http_client=self._http)
        self.client.api.base_url = rig.base

    async def do(self, work: Callable[[Client], T]) -> T:
        """Run this with the client."""
        return await asyncio.to_thread(work, self.client)

    def close(self) -> None:
        """Close its connections."""
        if self._http.session is not None:
            self._http.session.close()


@pytest.fixture
async def rig() -> AsyncIterator[RestRig]:
    """An interface without calls at first."""
    async with RestRig() as running:
        yield running


@pytest.fixture
async def sdk(rig: RestRig) -> AsyncIterator[Sdk]:
    """The package with the right credentials."""
    sdk = Sdk(rig)
    yield sdk
    sdk.close()


async def test_create_fetch_and_hang_up(rig: RestRig, sdk: Sdk) -> None:
    """The life of a call in the package's words."""
    created = await sdk.do(
        lambda client: client.calls.create(
            to="+14155550123",
            from_="+14155550100",
            twiml="<Response><Hangup/></Response>",
            timeout=20,
            record=False,
            status_callback="https://bot.example/status",
            status_callback_event=["initiated", "completed"],
        )
    )
    assert (created.status, created.direction) == ("queued", "outbound-api")
    order = rig.calls.orders[0]
    assert not isinstance(order, tuple)
    assert order.timeout_s == 20
    assert order.callback is not None
    assert order.callback.events == {"initiated", "completed"}
    sid = created.sid
    assert sid is not None
    fetched = await sdk.do(lambda client: client.calls(sid).fetch())
    assert fetched.date_created is not None
    assert fetched.date_created == created.date_created
    assert fetched.start_time is None
    ended = await sdk.do(lambda client: client.calls(sid).update(status="completed"))
    assert (ended.status, rig.calls.orders[1]) == ("canceled", (sid, Hangup()))
    assert await sdk.do(lambda client: client.calls(sid).delete())
    assert rig.calls.calls == {}


async def test_a_new_script(rig: RestRig, sdk: Sdk) -> None:
    """`update` with TwiML or with a URL."""
    sid = rig.calls.add(CallStatus.IN_PROGRESS).sid
    await sdk.do(lambda client: client.calls(sid).update(twiml="<Response/>"))
    await sdk.do(lambda client: client.calls(sid).update(url="http://bot.example/", method="GET"))
    scripts = [Script(twiml="<Response/>"), Script(url="http://bot.example/", method="GET")]
    assert rig.calls.orders == [(sid, NewScript(script)) for script in scripts]


async def test_lists(rig: RestRig, sdk: Sdk) -> None:
    """The package pages through all by itself, with and without a limit."""
    calls = [rig.calls.add(CallStatus.BUSY, created_at=1e9 + second) for second in range(7)]
    sids = [call.sid for call in reversed(calls)]
    listed = await sdk.do(lambda client: client.calls.list(status="busy", page_size=3))
    assert [call.sid for call in listed] == sids
    listed = await sdk.do(lambda client: client.calls.list(limit=2, to="+14155550123"))
    assert [call.sid for call in listed] == sids[:2]
    page = await sdk.do(lambda client: client.calls.page(page_size=4))
    second = await sdk.do(lambda _: page.next_page())
    assert second is not None
    assert [call.sid for call in second] == sids[4:]
    back = await sdk.do(lambda _: second.previous_page())
    assert back is not None
    assert [call.sid for call in back] == sids[:4]


async def test_errors(rig: RestRig, sdk: Sdk) -> None:
    """They arrive as the package's own, with code and status."""
    with pytest.raises(TwilioRestException) as refused:
        await sdk.do(lambda client: client.calls("CA" + "0" * 32).fetch())
    assert (refused.value.status, refused.value.code) == (404, 20404)
    stranger = Sdk(rig, secret="guessed")
    with pytest.raises(TwilioRestException) as refused:
        await stranger.do(lambda client: client.calls("CA" + "0" * 32).fetch())
    stranger.close()
    assert (refused.value.status, refused.value.code) == (401, 20003)


async def test_an_api_key(tmp_path: Path) -> None:
    """The package's way to use a key: its id and secret, and the account's sid."""
    key, secret = new_key("bot", "operate")
    keys_path = tmp_path / "keys"
    keys_path.write_text(key.line())
    async with RestRig(keys_path=str(keys_path)) as rig:
        sid = rig.calls.add(CallStatus.RINGING).sid
        sdk = Sdk(rig, key.key_id, secret)
        ended = await sdk.do(lambda client: client.calls(sid).update(status="canceled"))
        sdk.close()
    assert ended.status == "canceled"
