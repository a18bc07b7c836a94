"""What a request to the Calls resource asks for: form or query in, domain words out. Pure.

Names, defaults and limits: https://www.twilio.com/docs/voice/api/call-resource. All of it raises
CallRejected.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec import Struct

from supervisor.phone import dial_target
from supervisor.phone.phone_call import (
    CallOrder,
    CallQuery,
    CallRejected,
    CallStatus,
    Hangup,
    NewScript,
    Script,
    StatusCallback,
)
from supervisor.rest.errors import Code, rejected
from supervisor.rest.form import Form

MAX_TWIML_CHARACTERS: Final = 4000
MAX_PAGE: Final = 1000
CALLBACK_EVENTS: Final = ("initiated", "ringing", "answered", "completed")
NOT_SUPPORTED: Final = ("MachineDetection", "SipAuthUsername", "SipAuthPassword", "Byoc")
"""Ignoring these would place another call than was asked for, or leave a bot waiting."""
FILTERS: Final = (
    *("To", "From", "ParentCallSid", "Status"),
    *(f"{name}{sign}" for name in ("StartTime", "EndTime") for sign in ("", "<", ">")),
)
"""What the pages of a list hand on to each other."""
PAGE_TOKEN: Final = re.compile(r"PACA[0-9a-f]{32}")


class Page(Struct, frozen=True):
    """Which part of a list: the calls after `after_sid`, or else those from page * size."""

    number: int = 0
    size: int = 50
    after_sid: str = ""


def call_order(form: Form) -> CallOrder:
    """A call to be placed, from the form of `POST .../Calls.json`."""
    form.refuse(NOT_SUPPORTED, "this is not supported here: leave it out")
    to = form.text("To")
    if not to:
        raise CallRejected(Code.NO_TO, 400, "To is missing; needed is whom to call")
    dial_target.party("To", to)
    record = form.flag("Record")
    send_digits = form.text("SendDigits")
    return CallOrder(
        to=to,
        caller=_caller(form, to),
        script=_script(form),
        timeout_s=form.whole_number("Timeout", 60, (1, 600), Code.INVALID_TIMEOUT),
        time_limit_s=form.whole_number("TimeLimit", 14400, (1, 86400), Code.INVALID_PARAMETER),
        send_digits=dial_target.digits("SendDigits", send_digits) if send_digits else "",
        record=record,
        callback=_callback(form),
    )


def call_update(form: Form) -> Hangup | NewScript:
    """What is to become of a call, from the form of `POST .../Calls/{CallSid}.json`.

    `canceled` is Hangup too: whether the call may be ended so is its state's to say.
    """
    if status := form.text("Status"):
        if status not in ("completed", "canceled"):
            raise rejected(Code.INVALID_PARAMETER, "Status", status, "completed or canceled")
        return Hangup()
    return NewScript(_script(form))


def call_query(query: Form) -> CallQuery:
    """The filters of a list. Times are of the call's creation and end; a day is one in UTC."""
    status = query.text("Status")
    if status and status not in set(CallStatus):
        raise rejected(Code.INVALID_PARAMETER, "Status", status, " or ".join(CallStatus))
    started_from, started_until = _span(query, "StartTime")
    ended_from, ended_until = _span(query, "EndTime")
    return CallQuery(
        to=query.text("To"),
        caller=query.text("From"),
        parent_sid=query.text("ParentCallSid"),
        status=CallStatus(status) if status else None,
        started_from=started_from,
        started_until=started_until,
        ended_from=ended_from,
        ended_until=ended_until,
    )


def page(query: Form) -> Page:
    """Which page of a list."""
    token = query.text("PageToken")
    if token and not PAGE_TOKEN.fullmatch(token):
        allowed = "one from next_page_uri"
        raise rejected(Code.INVALID_PARAMETER, "PageToken", token, allowed)
    return Page(
        number=query.whole_number("Page", 0, (0, 10**8), Code.INVALID_PARAMETER),
        size=query.whole_number("PageSize", 50, (1, MAX_PAGE), Code.PAGE_TOO_LARGE),
        after_sid=token.removeprefix("PA"),
    )


def _caller(form: Form, to: str) -> str:
    """Who is shown as calling: CallerId if given, else From, which is needed anyway."""
    sender = form.text("From")
    caller_id = form.text("CallerId")
    if not sender:
        raise CallRejected(Code.NO_FROM, 400, "From is missing; needed is who calls")
    for name, value in (("From", sender), ("CallerId", caller_id or sender)):
        dial_target.caller(name, value, to)
    return caller_id or sender


def _script(form: Form) -> Script:
    """Url wins over Twiml, as with Twilio."""
    if application := form.text("ApplicationSid"):
        allowed = "none: give Url or Twiml instead"
        raise rejected(Code.INVALID_APPLICATION, "ApplicationSid", application, allowed)
    url, twiml = form.url("Url"), form.text("Twiml")
    if not url and not twiml:
        raise CallRejected(Code.INVALID_URL, 400, "Url and Twiml are missing; needed is one")
    if len(twiml) > MAX_TWIML_CHARACTERS:
        what = f"Twiml has {len(twiml)} characters; allowed are {MAX_TWIML_CHARACTERS}"
        raise CallRejected(Code.TWIML_TOO_LONG, 400, what)
    return Script(
        twiml="" if url else twiml,
        url=url,
        method=form.method("Method"),
        fallback_url=form.url("FallbackUrl"),
        fallback_method=form.method("FallbackMethod"),
    )


def _callback(form: Form) -> StatusCallback | None:
    """The events come as a repeated field; some clients put them all into one."""
    url = form.url("StatusCallback", Code.INVALID_STATUS_CALLBACK)
    method = form.method("StatusCallbackMethod")
    events = [word for value in form.all("StatusCallbackEvent") for word in value.split()]
    for event in events:
        if event not in CALLBACK_EVENTS:
            allowed = ", ".join(CALLBACK_EVENTS)
            raise rejected(
                Code.INVALID_STATUS_CALLBACK_EVENT, "StatusCallbackEvent", event, allowed
            )
    return StatusCallback(url, method, frozenset(events or ["completed"])) if url else None


def _span(query: Form, name: str) -> tuple[float | None, float | None]:
    """From (included) and until (not included), Unix seconds, of `name`, `name>` and `name<`."""
    exactly = _moment(query, name)
    after = exactly or _moment(query, name + ">")
    before = exactly or _moment(query, name + "<")
    return after and after[0], before and before[1]


def _moment(query: Form, name: str) -> tuple[float, float] | None:
    """The span that a date or a time (to the second, UTC) covers."""
    text = query.text(name)
    if not text:
        return None
    for form, length in (("%Y-%m-%d", timedelta(days=1)), ("%Y-%m-%dT%H:%M:%SZ", timedelta(0, 1))):
        try:
            start = datetime.strptime(text, form).replace(tzinfo=UTC)
            return start.timestamp(), start.timestamp() + length.total_seconds()
        except ValueError:
            continue
    allowed = "YYYY-MM-DD or YYYY-MM-DDTHH:MM:SSZ"
    raise rejected(Code.INVALID_PARAMETER, name, text, allowed)
