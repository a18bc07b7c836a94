"""Errors of the REST interface: Twilio's codes, and the body that Twilio's clients expect. Pure.

Codes are those of https://www.twilio.com/docs/api/errors; where the dictionary has none of its own
for an HTTP status, the status is the code, as Twilio does for 400, 403 and 404.
"""

from enum import IntEnum
from typing import Any, Final

from supervisor.phone.phone_call import CallRejected

SHOWN_CHARACTERS: Final = 100
"""Of a refused value an error shows so much."""


class Code(IntEnum):
    """The codes that we answer with."""

    BAD_REQUEST = 400
    TIMED_OUT = 408
    TOO_LARGE = 413
    WRONG_TYPE = 415
    INVALID_PARAMETER = 20001
    NOT_AUTHENTICATED = 20003
    METHOD_NOT_ALLOWED = 20004
    PAGE_TOO_LARGE = 20007
    NOT_COMPLETE = 20009
    FORBIDDEN = 20403
    NOT_FOUND = 20404
    TOO_MANY_REQUESTS = 20429
    INTERNAL = 20500
    UNAVAILABLE = 20503
    NO_TO = 21201
    INVALID_URL = 21205
    INVALID_DIGITS = 21206
    INVALID_TIMEOUT = 21208
    INVALID_METHOD = 21209
    INVALID_TO = 21211
    INVALID_FROM = 21212
    NO_FROM = 21213
    INVALID_APPLICATION = 21218
    INVALID_STATE = 21220
    INVALID_STATUS_CALLBACK = 21609
    INVALID_STATUS_CALLBACK_EVENT = 21626
    TWIML_TOO_LONG = 32018


def rejected(code: int, name: str, value: str, allowed: str) -> CallRejected:
    """A parameter that can't be used: names it, its value, and what is allowed."""
    return CallRejected(code, 400, f"{name} is {shown(value)}; allowed is {allowed}")


def not_found(path: str) -> CallRejected:
    """There is nothing at a path, or nothing that this account may see."""
    what = f"The requested resource {shown(path)} was not found"
    return CallRejected(Code.NOT_FOUND, 404, what)


def shown(value: str) -> str:
    """A foreign value as an error may repeat it: quoted, escaped, not endless."""
    cut = value if len(value) <= SHOWN_CHARACTERS else value[:SHOWN_CHARACTERS] + "…"
    return ascii(cut)


def body(error: CallRejected) -> dict[str, Any]:
    """The JSON body of an error ("Twilio API responses", Exceptions)."""
    return {
        "code": error.code,
        "message": str(error),
        "more_info": f"https://www.twilio.com/docs/errors/{error.code}",
        "status": error.status,
    }
