"""Calls as Twilio shows them: one, and a page of many. Pure.

Fields: https://www.twilio.com/docs/voice/api/call-resource. A page has exactly the keys that
Twilio's clients know beside the list, as they take any other for the list itself.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Final
from urllib.parse import urlencode

from supervisor.phone.phone_call import CallStatus, PhoneCall
from supervisor.rest.parameters import Page

API_VERSION: Final = "2010-04-01"
NORTH_AMERICAN: Final = re.compile(r"\+1([2-9]\d\d)(\d{3})(\d{4})")


def calls_uri(account_sid: str) -> str:
    """The path of an account's calls, without `.json`."""
    return f"/{API_VERSION}/Accounts/{account_sid}/Calls"


def call_resource(call: PhoneCall) -> dict[str, Any]:
    """One call. Times are RFC 2822 in UTC; the start is the creation, as in the list's filters."""
    return {
        "sid": call.sid,
        "account_sid": call.account_sid,
        "parent_call_sid": call.parent_sid or None,
        "to": call.called,
        "to_formatted": _formatted(call.called),
        "from": call.caller,
        "from_formatted": _formatted(call.caller),
        "status": call.status,
        "direction": call.direction,
        "start_time": None if call.status is CallStatus.QUEUED else _date(call.created_at),
        "end_time": _date(call.ended_at),
        "date_created": _date(call.created_at),
        "date_updated": _date(call.updated_at or call.created_at),
        "duration": _duration(call),
        "price": None,
        "price_unit": "USD",
        "answered_by": None,
        "caller_name": None,
        "forwarded_from": None,
        "group_sid": None,
        "phone_number_sid": None,
        "queue_time": "0",
        "trunk_sid": None,
        "annotation": None,
        "api_version": API_VERSION,
        "uri": f"{calls_uri(call.account_sid)}/{call.sid}.json",
        "subresource_uris": {},
    }


def call_page(
    calls: list[PhoneCall], page: Page, account_sid: str, filters: Mapping[str, str]
) -> dict[str, Any]:
    """A page of `calls`, which are all that fit the filters.

    The next page begins after the last call of this one, so that calls that come meanwhile shift
    nothing. If that call was deleted, it is counted instead.
    """
    start = _start(calls, page)
    shown = calls[start : start + page.size]
    more = start + page.size < len(calls)

    def uri(number: int, token: str = "") -> str:
        paging = {"PageSize": str(page.size), "Page": str(number)}
        after = {"PageToken": token} if token else {}
        return f"{calls_uri(account_sid)}.json?{urlencode({**filters, **paging, **after})}"

    return {
        "calls": [call_resource(call) for call in shown],
        "page": page.number,
        "page_size": page.size,
        "start": start,
        "end": start + max(len(shown) - 1, 0),
        "uri": uri(page.number, f"PA{page.after_sid}" if page.after_sid else ""),
        "first_page_uri": uri(0),
        "next_page_uri": uri(page.number + 1, f"PA{shown[-1].sid}") if more and shown else None,
        "previous_page_uri": uri(page.number - 1) if page.number else None,
    }


def _start(calls: list[PhoneCall], page: Page) -> int:
    if page.after_sid:
        for index, call in enumerate(calls):
            if call.sid == page.after_sid:
                return index + 1
    return page.number * page.size


def _date(unix_s: float) -> str | None:
    return format_datetime(datetime.fromtimestamp(int(unix_s), UTC)) if unix_s else None


def _duration(call: PhoneCall) -> str | None:
    """Seconds from answer to end; null for a call that goes on or was never answered."""
    if not (call.answered_at and call.ended_at):
        return None
    return str(max(0, round(call.ended_at - call.answered_at)))


def _formatted(number: str) -> str:
    """A number for people: North American ones have a form of their own."""
    match = NORTH_AMERICAN.fullmatch(number)
    return "({}) {}-{}".format(*match.groups()) if match else number
