"""What webhooks and callbacks say, and what hang-ups mean."""

import pytest
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from supervisor.phone.call_forms import (
    call_form,
    dial_form,
    outcome,
    progress_event,
    progress_form,
    sign,
    status_after,
    stream_form,
)
from supervisor.phone.call_search import fits
from supervisor.phone.phone_call import CallQuery, CallStatus, Direction, PhoneCall

URL = "https://example.com/path?x=1"


def a_call(status: CallStatus = CallStatus.QUEUED) -> PhoneCall:
    """An outbound call."""
    direction = Direction.OUTBOUND_API
    return PhoneCall("CA1", "AC1", direction, "+1555", "+1666", created_at=100.0, status=status)


def test_the_signature_is_twilios() -> None:
    """Twilio's own package accepts it, for forms and without."""
    form = call_form(a_call())
    validator = RequestValidator("token")
    assert validator.validate(URL, form, sign("token", URL, form))
    assert validator.validate(URL, {}, sign("token", URL, {}))


def test_a_calls_progress() -> None:
    """Sequence, time, and at the end the seconds since the answer."""
    call = a_call()
    assert progress_form(call, 0, 0.0)["Timestamp"] == "Thu, 01 Jan 1970 00:00:00 +0000"
    status_after(call, CallStatus.IN_PROGRESS, 110.0)
    assert "CallDuration" not in progress_form(call, 1, 110.0)
    status_after(call, CallStatus.COMPLETED, 117.2)
    form = progress_form(call, 2, 118.0)
    assert (form["CallDuration"], form["SequenceNumber"]) == ("7", "2")
    assert form["CallbackSource"] == "call-progress-events"


def test_events_of_statuses() -> None:
    """All final statuses are "completed"."""
    names = [progress_event(status) for status in CallStatus]
    assert names == ["initiated", "ringing", "answered"] + ["completed"] * 5


def test_the_dialed_call() -> None:
    """Its status, and its duration if it was answered."""
    leg = a_call(CallStatus.BUSY)
    assert dial_form(a_call(), leg)["DialCallStatus"] == "busy"
    assert "DialCallDuration" not in dial_form(a_call(), leg)


def test_a_streams_event() -> None:
    """Twilio's names, and a time in ISO 8601."""
    form = stream_form(a_call(), "stream-started", {"StreamSid": "MZ1"}, 0.0)
    assert (form["StreamEvent"], form["StreamSid"]) == ("stream-started", "MZ1")
    assert form["Timestamp"] == "1970-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    ("cause", "answered", "timed_out", "status"),
    [
        (17, False, False, CallStatus.BUSY),
        (19, False, True, CallStatus.NO_ANSWER),
        (18, False, False, CallStatus.NO_ANSWER),
        (0, False, True, CallStatus.NO_ANSWER),
        (0, False, False, CallStatus.FAILED),
        (1, False, True, CallStatus.FAILED),
        (21, False, False, CallStatus.FAILED),
        (17, True, False, CallStatus.COMPLETED),
    ],
)
def test_outcomes(cause: int, answered: bool, timed_out: bool, status: CallStatus) -> None:
    """Q.850 causes, as Asterisk reports them."""
    assert outcome(cause, answered=answered, timed_out=timed_out) is status


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (CallQuery(), True),
        (CallQuery(to="+1666", caller="+1555"), True),
        (CallQuery(to="+1555"), False),
        (CallQuery(status=CallStatus.BUSY), False),
        (CallQuery(started_from=100.0, started_until=101.0), True),
        (CallQuery(started_until=100.0), False),
        (CallQuery(ended_from=0.0), False),
    ],
)
def test_search(query: CallQuery, found: bool) -> None:
    """From is inclusive, until exclusive; what hasn't ended has no time of end."""
    assert fits(a_call(), query) is found
