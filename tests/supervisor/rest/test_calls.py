"""The Calls resource by HTTP, from socket to orders."""

from collections.abc import AsyncIterator

import pytest

from supervisor.phone.phone_call import (
    CallStatus,
    Hangup,
    Hold,
    NewScript,
    Script,
    Transfer,
)
from tests.supervisor.rest_rig import ACCOUNT, CALLS, FORM, RestRig, basic

JSON = {"Content-Type": "application/json"}
SID = "CA" + "0" * 32
ORDER = {"To": "+14155550123", "From": "+14155550100", "Twiml": "<Response/>"}


@pytest.fixture
async def rig() -> AsyncIterator[RestRig]:
    """An interface without calls at first."""
    async with RestRig() as running:
        yield running


def path(sid: str, account: str = ACCOUNT) -> str:
    """A call's path."""
    return f"/2010-04-01/Accounts/{account}/Calls/{sid}.json"


async def test_a_call_is_created(rig: RestRig) -> None:
    """201, with the call as it is queued."""
    answer = await rig.ask("POST", CALLS, ORDER)
    assert answer.status == 201
    assert answer.headers["Content-Type"] == "application/json"
    assert (answer.json["status"], answer.json["to"]) == ("queued", "+14155550123")
    assert (await rig.ask("GET", path(answer.json["sid"]))).json == answer.json


async def test_what_the_calls_refuse(rig: RestRig) -> None:
    """Their code and status come through, in Twilio's body."""
    answer = await rig.ask("POST", CALLS, {**ORDER, "To": "+19005550123"})
    assert answer.status == 400
    assert answer.json == {
        "code": 21215,
        "message": "calls to +1900 are not allowed here",
        "more_info": "https://www.twilio.com/docs/errors/21215",
        "status": 400,
    }


@pytest.mark.parametrize("status", ["completed", "canceled"])
async def test_a_call_is_ended(rig: RestRig, status: str) -> None:
    """Only one that goes on is told; one that has ended is shown as it is, with 200."""
    call = rig.calls.add(CallStatus.RINGING)
    for _ in range(2):
        answer = await rig.ask("POST", path(call.sid), {"Status": status})
        assert (answer.status, answer.json["status"]) == (200, "canceled")
    assert rig.calls.orders == [(call.sid, Hangup())]


async def test_canceled_spares_who_talks(rig: RestRig) -> None:
    """As with Twilio, it ends only what was never answered."""
    call = rig.calls.add(CallStatus.IN_PROGRESS)
    answer = await rig.ask("POST", path(call.sid), {"Status": "canceled"})
    assert (answer.status, answer.json["status"]) == (200, "in-progress")
    assert rig.calls.orders == []


async def test_a_call_gets_another_script(rig: RestRig) -> None:
    """While it goes on; otherwise 21220."""
    call = rig.calls.add(CallStatus.IN_PROGRESS)
    assert (await rig.ask("POST", path(call.sid), {"Twiml": "<Response/>"})).status == 200
    assert rig.calls.orders == [(call.sid, NewScript(Script(twiml="<Response/>")))]
    ended = rig.calls.add(CallStatus.COMPLETED)
    answer = await rig.ask("POST", path(ended.sid), {"Twiml": "<Response/>"})
    assert (answer.status, answer.json["code"]) == (400, 21220)


async def test_a_call_is_deleted(rig: RestRig) -> None:
    """When it has ended; then it is gone."""
    ended, talking = rig.calls.add(CallStatus.BUSY), rig.calls.add(CallStatus.IN_PROGRESS)
    answer = await rig.ask("DELETE", path(ended.sid))
    assert (answer.status, answer.body) == (204, b"")
    assert (await rig.ask("GET", path(ended.sid))).json["code"] == 20404
    answer = await rig.ask("DELETE", path(talking.sid))
    assert (answer.status, answer.json["code"]) == (409, 20009)


async def test_lists(rig: RestRig) -> None:
    """Filters hold over all pages."""
    busy = [rig.calls.add(CallStatus.BUSY, created_at=1e9 + second) for second in range(5)]
    rig.calls.add(CallStatus.FAILED)
    seen, uri = [], f"{CALLS}?Status=busy&PageSize=2&StartTime%3E=2001-09-09"
    while uri:
        page = (await rig.ask("GET", uri)).json
        seen += [call["sid"] for call in page["calls"]]
        uri = page["next_page_uri"]
    assert seen == [call.sid for call in reversed(busy)]
    assert (await rig.ask("GET", f"{CALLS}?StartTime<=2001-09-08")).json["calls"] == []


async def test_our_own_operations(rig: RestRig) -> None:
    """JSON in, the call as Twilio shows it out."""
    call = rig.calls.add(CallStatus.IN_PROGRESS)
    bodies = {"hold": '{"on": true}', "transfer": '{"target": "sip:desk@pbx.example"}'}
    for operation, body in bodies.items():
        answer = await rig.ask("POST", f"/calls/{call.sid}/{operation}", body, headers=JSON)
        assert (answer.status, answer.json["sid"]) == (200, call.sid)
    orders = [Hold(True), Transfer("sip:desk@pbx.example")]
    assert rig.calls.orders == [(call.sid, order) for order in orders]
    ended = rig.calls.add(CallStatus.COMPLETED)
    answer = await rig.ask("POST", f"/calls/{ended.sid}/hold", '{"on": true}', headers=JSON)
    assert (answer.status, answer.json["code"]) == (400, 21220)


@pytest.mark.parametrize(
    ("method", "where", "status", "code"),
    [
        ("GET", path(SID), 404, 20404),
        ("POST", f"/calls/{SID}/hold", 400, 400),
        ("POST", f"/calls/{SID}/complete-transfer", 404, 20404),
        ("GET", path(SID, "AC" + "f" * 32), 404, 20404),
        ("GET", path("CA"), 404, 20404),
        ("GET", path("CA" + "0" * 5000), 404, 20404),
        ("GET", path(SID.lower()), 404, 20404),
        ("GET", path("..%2f..%2fCalls"), 404, 20404),
        ("GET", path("../" * 5), 404, 20404),
        ("GET", path(SID + "%00"), 404, 20404),
        ("GET", path(SID + "%0a"), 404, 20404),
        ("GET", path("%ff%fe"), 404, 20404),
        ("GET", f"/2010-04-01/Accounts/..%2f{ACCOUNT}/Calls.json", 404, 20404),
        ("GET", f"{CALLS}/../../{ACCOUNT}/Calls.json", 404, 20404),
        ("GET", f"/calls/{SID}/../{SID}/hold", 404, 20404),
        ("PUT", CALLS, 405, 20004),
        ("PATCH", path(SID), 405, 20004),
        ("GET", f"{CALLS}?Status=%ff", 400, 400),
        ("GET", f"{CALLS}?" + "a=1&" * 200, 400, 400),
        ("GET", f"{CALLS}?PageSize=5000", 400, 20007),
        ("POST", "/workers/0x1/restart", 404, 20404),
        ("POST", "/workers/1/restart", 403, 20403),
    ],
)
async def test_what_is_nowhere(
    rig: RestRig, method: str, where: str, status: int, code: int
) -> None:
    """Foreign accounts, wrong ids, path tricks: a clear error, printable, and not endless."""
    answer = await rig.ask(method, where, headers=JSON if "/calls" in where else None)
    assert (answer.status, answer.json["code"]) == (status, code)
    assert answer.json["message"].isprintable()
    assert len(answer.body) < 1000


async def test_bodies_that_are_not_read(rig: RestRig) -> None:
    """Too large, of another type, compressed: refused, and the next request is answered."""
    assert (await rig.ask("POST", CALLS, b"a" * 65_537, headers=FORM)).json["code"] == 413
    for headers in ({"Content-Type": "text/xml"}, {**FORM, "Content-Encoding": "gzip"}):
        answer = await rig.ask("POST", CALLS, b"To=1", headers=headers)
        assert (answer.status, answer.json["code"]) == (415, 415)
    assert (await rig.ask("POST", CALLS, ORDER)).status == 201


async def test_without_calls() -> None:
    """A supervisor that has no call control says so, for every route."""
    async with RestRig(calls=False) as rig:
        for method, where in (("GET", CALLS), ("GET", path(SID)), ("DELETE", path(SID))):
            answer = await rig.ask(method, where)
            assert (answer.status, answer.json["code"]) == (503, 20503)
        assert (await rig.ask("POST", CALLS, ORDER)).status == 503


async def test_foreign_credentials_see_no_account(rig: RestRig) -> None:
    """A foreign account's sid is no user here, and its calls are not found with our own."""
    foreign = "AC" + "f" * 32
    answer = await rig.ask("GET", path(SID, foreign), authorization=basic(foreign))
    assert (answer.status, answer.json["code"]) == (401, 20003)
