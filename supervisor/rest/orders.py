"""Our own operations on a call, beyond Twilio's: a JSON object in, an order out. Pure."""

from typing import Any, Final

import msgspec

from supervisor.phone import dial_target
from supervisor.phone.phone_call import (
    AddParty,
    CallRejected,
    CancelTransfer,
    CompleteTransfer,
    Hold,
    Mute,
    Order,
    PlayDigits,
    Record,
    Transfer,
)
from supervisor.rest.errors import Code, shown

OPERATIONS: Final[dict[str, type[Order]]] = {
    "transfer": Transfer,
    "complete-transfer": CompleteTransfer,
    "cancel-transfer": CancelTransfer,
    "hold": Hold,
    "mute": Mute,
    "digits": PlayDigits,
    "parties": AddParty,
    "recording": Record,
}
"""The last part of `POST /calls/{CallSid}/...`; the body's fields are those of the order."""


def order(operation: str, body: bytes) -> Order:
    """The order of one of OPERATIONS; no body is an empty object.

    Raises:
        CallRejected: the body is no such object, or a value is not allowed.
    """
    kind = OPERATIONS[operation]
    try:
        fields = msgspec.json.decode(body or b"{}", type=dict[str, Any])
        _check_names(operation, fields, kind)
        return _checked(msgspec.convert(fields, kind))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        what = f"the body of {operation} can't be used: {error}; {_needed(kind)}"
        raise CallRejected(Code.BAD_REQUEST, 400, what) from error


def _check_names(operation: str, fields: dict[str, Any], kind: type[Order]) -> None:
    """A misspelt name must not be taken for its default."""
    unknown = sorted(fields.keys() - set(kind.__struct_fields__))
    if unknown:
        what = f"the body of {operation} has {shown(unknown[0])}; {_needed(kind)}"
        raise CallRejected(Code.INVALID_PARAMETER, 400, what)


def _checked(order: Order) -> Order:
    match order:
        case Transfer(target):
            dial_target.transfer_target("target", target)
        case AddParty(target):
            dial_target.party("target", target)
        case PlayDigits(digits):
            return PlayDigits(dial_target.digits("digits", digits))
    return order


def _needed(kind: type[Order]) -> str:
    names = ", ".join(kind.__struct_fields__)
    return f"allowed is a JSON object with {names}" if names else "allowed is an empty JSON object"
