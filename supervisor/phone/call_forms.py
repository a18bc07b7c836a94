"""The forms that webhooks and callbacks get, signed like Twilio's; what a hang-up means. Pure.

https://www.twilio.com/docs/voice/twiml#request-parameters, …/voice/api/call-resource#statuscallback
and …/usage/security#validating-requests.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final

from shim import twilio_signature
from supervisor.phone.phone_call import CallStatus, PhoneCall

API_VERSION: Final = "2010-04-01"
BUSY_CAUSES: Final = frozenset({17})
NO_ANSWER_CAUSES: Final = frozenset({18, 19})
"""Q.850: user busy; no user responding, no answer from the user."""
NORMAL_CAUSES: Final = frozenset({0, 16})


def call_form(call: PhoneCall) -> dict[str, str]:
    """What every request about a call says of it."""
    form = {
        "CallSid": call.sid,
        "AccountSid": call.account_sid,
        "From": call.caller,
        "To": call.called,
        "Caller": call.caller,
        "Called": call.called,
        "CallStatus": call.status.value,
        "ApiVersion": API_VERSION,
        "Direction": call.direction.value,
    }
    if call.parent_sid:
        form["ParentCallSid"] = call.parent_sid
    return form


def progress_form(call: PhoneCall, sequence: int, now_s: float) -> dict[str, str]:
    """A status callback; `sequence` counts a call's callbacks from 0."""
    form = call_form(call) | {
        "CallbackSource": "call-progress-events",
        "SequenceNumber": str(sequence),
        "Timestamp": format_datetime(datetime.fromtimestamp(now_s, UTC)),
    }
    if call.status.is_final:
        form["CallDuration"] = str(duration_s(call))
    return form


def dial_form(call: PhoneCall, leg: PhoneCall) -> dict[str, str]:
    """What `<Dial action>` is told: the call, and how the dialed one ended."""
    form = call_form(call) | {"DialCallSid": leg.sid, "DialCallStatus": leg.status.value}
    return form | {"DialCallDuration": str(duration_s(leg))} if leg.answered_at else form


def stream_form(
    call: PhoneCall, event: str, stream: Mapping[str, str], now_s: float
) -> dict[str, str]:
    """What `<Stream statusCallback>` is told; `stream` has StreamSid, and StreamName, StreamError.

    `event` is stream-started, stream-stopped or stream-error.
    """
    moment = datetime.fromtimestamp(now_s, UTC).isoformat(timespec="milliseconds")
    return {
        "AccountSid": call.account_sid,
        "CallSid": call.sid,
        **stream,
        "StreamEvent": event,
        "Timestamp": moment.replace("+00:00", "Z"),
    }


def duration_s(call: PhoneCall) -> int:
    """Whole seconds from the answer to the end; 0 without an answer."""
    return max(0, round(call.ended_at - call.answered_at)) if call.answered_at else 0


def sign(auth_token: str, url: str, form: Mapping[str, str]) -> str:
    """X-Twilio-Signature of a request with form parameters (none for GET)."""
    parameters = "".join(name + form[name] for name in sorted(form))
    return twilio_signature.sign(auth_token, url + parameters)


def outcome(cause: int, *, answered: bool, timed_out: bool) -> CallStatus:
    """What a call came to whose channel ended with this Q.850 cause, by the other side's doing."""
    if answered:
        return CallStatus.COMPLETED
    if cause in BUSY_CAUSES:
        return CallStatus.BUSY
    if cause in NO_ANSWER_CAUSES or (timed_out and cause in NORMAL_CAUSES):
        return CallStatus.NO_ANSWER
    return CallStatus.FAILED


PROGRESS: Final = {
    CallStatus.QUEUED: "initiated",
    CallStatus.RINGING: "ringing",
    CallStatus.IN_PROGRESS: "answered",
}
"""The callback event of a status; all final ones are "completed"."""


def progress_event(status: CallStatus) -> str:
    """The name of the callback event that belongs to a status."""
    return PROGRESS.get(status, "completed")


def status_after(call: PhoneCall, status: CallStatus, now_s: float) -> None:
    """Move a call on to another status, with the times that go with it."""
    call.status = status
    call.updated_at = now_s
    if status is CallStatus.IN_PROGRESS:
        call.answered_at = call.answered_at or now_s
    if status.is_final:
        call.ended_at = now_s
