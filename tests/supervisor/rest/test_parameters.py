"""What forms and queries of the Calls resource mean, and which values are refused how."""

from urllib.parse import urlencode

import pytest

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
from supervisor.rest import parameters as rest_parameters
from supervisor.rest.form import Form
from supervisor.rest.parameters import Page

GOOD = {"To": "+14155550123", "From": "+14155550100", "Url": "https://bot.example/twiml"}


def form(*pairs: tuple[str, str], **fields: str) -> Form:
    """A form as it comes."""
    return Form(urlencode([*fields.items(), *pairs]).encode())


def order(*pairs: tuple[str, str], **changes: str) -> CallOrder:
    """The order of a good form with changes."""
    return rest_parameters.call_order(form(*pairs, **{**GOOD, **changes}))


def test_the_least() -> None:
    """To, From and Url do; the rest has Twilio's defaults."""
    script = Script(url="https://bot.example/twiml")
    assert order() == CallOrder("+14155550123", "+14155550100", script)
    assert (order().timeout_s, order().time_limit_s) == (60, 14400)


def test_everything() -> None:
    """Each parameter has its place in the order."""
    events = [("StatusCallbackEvent", each) for each in ("initiated", "answered completed")]
    assert order(
        *events,
        To="sip:agent@127.0.0.1:5070;transport=tcp",
        CallerId="front-desk",
        Method="GET",
        FallbackUrl="http://bot.example/fallback",
        FallbackMethod="GET",
        Timeout="5",
        TimeLimit="600",
        SendDigits="12W#",
        Record="true",
        StatusCallback="https://bot.example/status",
        StatusCallbackMethod="GET",
    ) == CallOrder(
        to="sip:agent@127.0.0.1:5070;transport=tcp",
        caller="front-desk",
        script=Script(
            url="https://bot.example/twiml",
            method="GET",
            fallback_url="http://bot.example/fallback",
            fallback_method="GET",
        ),
        timeout_s=5,
        time_limit_s=600,
        send_digits="12ww#",
        record=True,
        callback=StatusCallback(
            "https://bot.example/status", "GET", frozenset({"initiated", "answered", "completed"})
        ),
    )


def test_url_wins_over_twiml() -> None:
    """As with Twilio; without a Url the TwiML itself is the script."""
    assert order(Twiml="<Response/>").script.twiml == ""
    assert order(Twiml="<Response/>", Url="").script == Script(twiml="<Response/>")


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        (21201, {"To": ""}),
        (21211, {"To": "4155550123"}),
        (21211, {"To": "+1415555012345678"}),
        (21211, {"To": "+1415\n5550123"}),
        (21211, {"To": "client:joe"}),
        (21211, {"To": "sip:a@b&PJSIP/c"}),
        (21211, {"To": "sip:a@b,30,t"}),
        (21213, {"From": ""}),
        (21212, {"From": "front-desk"}),
        (21212, {"CallerId": "+0"}),
        (21205, {"Url": ""}),
        (21205, {"Url": "ftp://bot.example"}),
        (21205, {"Url": "http://[::1"}),
        (21205, {"Url": "https://bot.example/a b"}),
        (21205, {"Url": "https://bot.example/" + "a" * 4000}),
        (21205, {"FallbackUrl": "bot.example"}),
        (32018, {"Url": "", "Twiml": "x" * 4001}),
        (21209, {"Method": "PUT"}),
        (21209, {"StatusCallbackMethod": "get"}),
        (21208, {"Timeout": "0"}),
        (21208, {"Timeout": "soon"}),
        (21208, {"Timeout": "²"}),
        (20001, {"TimeLimit": "86401"}),
        (21206, {"SendDigits": "12 3"}),
        (20001, {"Record": "yes"}),
        (21609, {"StatusCallback": "bot.example"}),
        (21626, {"StatusCallback": "https://bot.example", "StatusCallbackEvent": "busy"}),
        (21218, {"ApplicationSid": "AP" + "0" * 32}),
        (20001, {"MachineDetection": "Enable"}),
        (20001, {"SipAuthUsername": "joe"}),
    ],
)
def test_what_is_refused(code: int, changes: dict[str, str]) -> None:
    """Each with Twilio's code, and a text that names the parameter."""
    with pytest.raises(CallRejected) as refused:
        order(**changes)
    assert (refused.value.code, refused.value.status) == (code, 400)
    text = str(refused.value)
    assert any(name in text for name in changes)
    assert text.isprintable()
    assert len(text) < 400


@pytest.mark.parametrize("status", ["completed", "canceled"])
def test_an_end(status: str) -> None:
    """Status wins over a script."""
    assert rest_parameters.call_update(form(Status=status, Twiml="<Response/>")) == Hangup()


def test_a_new_script() -> None:
    """Url with Method, or Twiml."""
    update = rest_parameters.call_update(form(Url="http://bot.example/", Method="GET"))
    assert update == NewScript(Script(url="http://bot.example/", method="GET"))
    update = rest_parameters.call_update(form(Twiml="<Response/>"))
    assert update == NewScript(Script(twiml="<Response/>"))


@pytest.mark.parametrize(("code", "fields"), [(20001, {"Status": "busy"}), (21205, {})])
def test_what_is_no_update(code: int, fields: dict[str, str]) -> None:
    """Another status, or nothing at all."""
    with pytest.raises(CallRejected) as refused:
        rest_parameters.call_update(form(**fields))
    assert refused.value.code == code


def test_filters() -> None:
    """A day is one in UTC; `<` and `>` include what they name, as with Twilio."""
    day_s, july_6_s = 86400.0, 1246838400.0
    query = rest_parameters.call_query(
        form(("StartTime<", "2009-07-06"), ("EndTime>", "2009-07-06T00:00:01Z"), Status="busy")
    )
    assert query == CallQuery(
        status=CallStatus.BUSY, started_until=july_6_s + day_s, ended_from=july_6_s + 1
    )
    query = rest_parameters.call_query(form(StartTime="2009-07-06", To="+1", From="+2"))
    assert (query.started_from, query.started_until) == (july_6_s, july_6_s + day_s)
    assert (query.to, query.caller) == ("+1", "+2")


@pytest.mark.parametrize("fields", [{"Status": "ended"}, {"StartTime": "6.7.2009"}])
def test_bad_filters(fields: dict[str, str]) -> None:
    """They are not ignored: that would show too many calls."""
    with pytest.raises(CallRejected) as refused:
        rest_parameters.call_query(form(**fields))
    assert refused.value.code == 20001


def test_pages() -> None:
    """Number, size and token."""
    token = "PACA" + "0" * 32
    assert rest_parameters.page(form()) == Page(0, 50, "")
    asked = form(Page="2", PageSize="1000", PageToken=token)
    assert rest_parameters.page(asked) == Page(2, 1000, token[2:])


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        (20007, {"PageSize": "1001"}),
        (20007, {"PageSize": "0"}),
        (20001, {"Page": "-1"}),
        (20001, {"PageToken": "PASM0"}),
    ],
)
def test_bad_pages(code: int, fields: dict[str, str]) -> None:
    """Beyond Twilio's largest page, and what is no token of ours."""
    with pytest.raises(CallRejected) as refused:
        rest_parameters.page(form(**fields))
    assert refused.value.code == code


@pytest.mark.parametrize(
    "encoded", [b"To=%ff", b"To=\xff", b"&".join(b"a=%d" % i for i in range(101))]
)
def test_no_form(encoded: bytes) -> None:
    """What is no UTF-8, or endless, is refused as a whole."""
    with pytest.raises(CallRejected) as refused:
        Form(encoded)
    assert refused.value.code == 400


def test_unknown_fields() -> None:
    """They are named; what is no name is not repeated, as it may be a number."""
    asked = form(("+14155550123", "1"), ("\x00" * 300, "1"), Known="1", Trim="trim-silence")
    asked.text("Known")
    assert asked.ignored() == ["?", "Trim"]
