"""How calls are shown."""

from supervisor.phone.phone_call import CallStatus, Direction, PhoneCall
from supervisor.rest.parameters import Page
from supervisor.rest.resource import call_page, call_resource

ACCOUNT = "AC" + "0" * 32
PAGE_KEYS = {
    "calls",
    "end",
    "first_page_uri",
    "next_page_uri",
    "page",
    "page_size",
    "previous_page_uri",
    "start",
    "uri",
}


def call(number: int = 0, **fields: float) -> PhoneCall:
    """A call that began when Twilio's documentation did."""
    return PhoneCall(
        sid=f"CA{number:032x}",
        account_sid=ACCOUNT,
        direction=Direction.OUTBOUND_API,
        caller="+14155550100",
        called="+442071838750",
        created_at=1281427337.6,
        status=CallStatus.COMPLETED if fields else CallStatus.QUEUED,
        **fields,  # type: ignore[arg-type]  # all given ones are times
    )


def test_a_call_that_has_ended() -> None:
    """Dates are RFC 2822, the duration is that from answer to end, as a string."""
    shown = call_resource(call(answered_at=1281427340.0, ended_at=1281427350.0))
    assert shown["start_time"] == "Tue, 10 Aug 2010 08:02:17 +0000"
    assert shown["end_time"] == "Tue, 10 Aug 2010 08:02:30 +0000"
    assert shown["duration"] == "10"
    assert shown["from_formatted"] == "(415) 555-0100"
    assert shown["to_formatted"] == "+442071838750"
    assert shown["uri"] == f"/2010-04-01/Accounts/{ACCOUNT}/Calls/CA{0:032x}.json"
    assert shown["price"] is None


def test_a_call_that_waits() -> None:
    """What hasn't been yet is null."""
    shown = call_resource(call())
    missing = ("start_time", "end_time", "duration", "parent_call_sid", "answered_by")
    assert {shown[name] for name in missing} == {None}
    assert shown["date_updated"] == shown["date_created"]


def test_pages_in_a_row() -> None:
    """Following next_page_uri, every call comes once; the filters come along."""
    calls = [call(number) for number in range(5)]
    first = call_page(calls, Page(size=2), ACCOUNT, {"StartTime<": "2009-07-06"})
    assert set(first) == PAGE_KEYS
    assert (first["start"], first["end"], first["previous_page_uri"]) == (0, 1, None)
    assert first["next_page_uri"] == (
        f"/2010-04-01/Accounts/{ACCOUNT}/Calls.json"
        f"?StartTime%3C=2009-07-06&PageSize=2&Page=1&PageToken=PACA{1:032x}"
    )
    last = call_page(calls, Page(2, 2, calls[3].sid), ACCOUNT, {})
    assert [each["sid"] for each in last["calls"]] == [calls[4].sid]
    assert last["next_page_uri"] is None
    assert "Page=1" in last["previous_page_uri"]


def test_calls_that_come_meanwhile_shift_nothing() -> None:
    """The next page begins after the last call that was shown, or where it was."""
    calls = [call(number) for number in range(3, 9)]
    page = Page(1, 2, calls[1].sid)
    newer = [call(number) for number in range(3)]
    assert call_page(newer + calls, page, ACCOUNT, {})["calls"][0]["sid"] == calls[2].sid
    without = [each for each in calls if each.sid != page.after_sid]
    assert call_page(without, page, ACCOUNT, {})["start"] == 2


def test_beyond_the_end() -> None:
    """An empty page."""
    page = call_page([call()], Page(7), ACCOUNT, {})
    assert (page["calls"], page["next_page_uri"]) == ([], None)
