"""Whom a call may be placed or moved to: E.164 numbers, SIP URIs, places in the dialplan. Pure.

The patterns are narrower than the RFCs: what they let through can be put into a dial string of
Asterisk without being anything else there (`&` would dial a second party, `,` begin options).
"""

import re
from typing import Final

from supervisor.rest.errors import Code, rejected

E164: Final = re.compile(r"\+[1-9][0-9]{6,14}")
"""ITU-T E.164: a country code and at most 15 digits in all; fewer than 7 reach nobody."""
SIP_URI: Final = re.compile(
    r"sips?:"
    r"(?:[A-Za-z0-9+._~%*!'-]{1,64}@)?"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9a-fA-F:.]{2,45}\])"
    r"(?::[0-9]{1,5})?"
    r"(?:;[A-Za-z0-9=._;-]{1,100})?"
)
"""RFC 3261 19.1.1 without passwords and headers."""
DIALPLAN: Final = re.compile(r"([A-Za-z0-9_-]{1,79}),([A-Za-z0-9_+*#.-]{1,79}),([0-9]{1,5})")
"""Context, extension and priority."""
CALLER: Final = re.compile(r"[A-Za-z0-9+._-]{1,64}")
"""A caller towards a SIP address needs no number."""
DIGITS: Final = re.compile(r"[0-9A-D*#wW]{1,64}")
DIGITS_ALLOWED: Final = "1 to 64 of 0-9, A-D, *, #, w (half a second's pause) and W (a second's)"

NUMBER_ALLOWED: Final = "an E.164 number such as +14155550123, or a SIP URI (sip:user@host)"


def is_sip(text: str) -> bool:
    """Whether it is a SIP URI, as opposed to a number."""
    return SIP_URI.fullmatch(text) is not None


def is_party(text: str) -> bool:
    """Whether somebody can be called there: an E.164 number or a SIP URI."""
    return E164.fullmatch(text) is not None or is_sip(text)


def is_caller(text: str, to: str) -> bool:
    """Whether a call to `to` can be from there: towards SIP addresses a name will do."""
    return is_party(text) or (is_sip(to) and CALLER.fullmatch(text) is not None)


def party(name: str, text: str) -> str:
    """Somebody who can be called; raises CallRejected."""
    if not is_party(text):
        raise rejected(Code.INVALID_TO, name, text, NUMBER_ALLOWED)
    return text


def caller(name: str, text: str, to: str) -> str:
    """What a call to `to` is placed from; raises CallRejected."""
    if not is_caller(text, to):
        allowed = f"{NUMBER_ALLOWED}; towards a SIP URI also a name"
        raise rejected(Code.INVALID_FROM, name, text, allowed)
    return text


def transfer_target(name: str, text: str) -> str:
    """The target of a transfer, which may be in the dialplan too; raises CallRejected."""
    if not (is_party(text) or DIALPLAN.fullmatch(text)):
        allowed = f"{NUMBER_ALLOWED}, or context,extension,priority"
        raise rejected(Code.INVALID_TO, name, text, allowed)
    return text


def digits(name: str, text: str) -> str:
    """DTMF to send, a pause of a second (`W`) as two of half a second; raises CallRejected."""
    if not DIGITS.fullmatch(text):
        raise rejected(Code.INVALID_DIGITS, name, text, DIGITS_ALLOWED)
    return text.replace("W", "ww")
