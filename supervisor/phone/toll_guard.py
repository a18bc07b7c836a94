"""How many calls may be placed to which numbers, and how Asterisk is told to place one. Pure.

Toll fraud is calls that nobody wanted to expensive numbers. So a number is dialed only if the
operator has named a prefix of it, and only as often as he has said.
"""

import re
from collections import defaultdict, deque
from typing import Final

from msgspec import Struct

from supervisor.phone.phone_call import CallRejected

HOUR_S: Final = 3600.0

NOT_PERMITTED: Final = 21215
"""Twilio: "Account not authorized to call phone number" (geographic permissions)."""
TOO_MANY: Final = 20429
"""Twilio: "Too many requests"."""


class Prefix(Struct, frozen=True):
    """Numbers that begin with `digits` ("+4930") may be called so often, and so many at once."""

    digits: str
    per_hour: int
    at_once: int


def read_prefixes(text: str) -> tuple[Prefix, ...]:
    """OUTBOUND_PREFIXES: `PREFIX[:PER_HOUR[:AT_ONCE]]`, separated by commas.

    Raises:
        ValueError: says which part is wrong, and what is allowed.
    """
    prefixes = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"(\+[1-9]\d{0,14}|sip)(?::(\d{1,6}))?(?::(\d{1,4}))?", part, re.ASCII)
        if match is None:
            raise ValueError(
                f"{part!r}; allowed is PREFIX[:PER_HOUR[:AT_ONCE]], as in +4930:100:5, and the "
                "prefix sip for SIP URIs"
            )
        prefixes.append(Prefix(match[1], int(match[2] or 60), int(match[3] or 10)))
    return tuple(prefixes)


def endpoint(template: str, target: str) -> str:
    """The channel to originate: a SIP URI takes the number's place as far as the trunk is named."""
    if target.startswith("sip"):
        technology, _, rest = template.partition("/")
        trunk = rest.partition("/")[0].rpartition("@")[2]
        return f"{technology}/{trunk}/{target}"
    return template.replace("{number}", target)


class TollGuard:
    """Counts the calls of each prefix, and lets through what the operator allows.

    Args:
        prefixes: none: no calls can be placed.
        per_second: how many calls may begin in a second.
    """

    def __init__(self, prefixes: tuple[Prefix, ...], per_second: float) -> None:
        self._prefixes = sorted(prefixes, key=lambda prefix: -len(prefix.digits))
        self._interval_s = 1 / per_second
        self._begun: defaultdict[str, deque[float]] = defaultdict(deque)
        self._up: dict[str, str] = {}
        self._next_at_s = 0.0

    def admit(self, sid: str, target: str, now_s: float) -> float:
        """Let a call begin; returns how many seconds it has to wait for its turn.

        Raises:
            CallRejected: outbound calls are off, the prefix isn't allowed, or has too many calls.
        """
        prefix = self._prefix_of(target)
        begun = self._begun[prefix.digits]
        while begun and begun[0] <= now_s - HOUR_S:
            begun.popleft()
        up = sum(digits == prefix.digits for digits in self._up.values())
        for have, most, what in (
            (len(begun), prefix.per_hour, "calls within the last hour"),
            (up, prefix.at_once, "calls at once"),
        ):
            if have >= most:
                why = f"OUTBOUND_PREFIXES allows {prefix.digits} {most} {what}, and it has {have}"
                raise CallRejected(TOO_MANY, 429, why)
        begun.append(now_s)
        self._up[sid] = prefix.digits
        wait_s = max(0.0, self._next_at_s - now_s)
        self._next_at_s = max(self._next_at_s, now_s) + self._interval_s
        return wait_s

    def check(self, target: str) -> None:
        """Raises CallRejected if it may not be called at all."""
        self._prefix_of(target)

    def adopt(self, sid: str, target: str, begun_s: float) -> None:
        """Count a call that an earlier process has placed."""
        if prefix := self._find(target):
            self._begun[prefix.digits].append(begun_s)
            self._up[sid] = prefix.digits

    def ended(self, sid: str) -> None:
        """A call is over."""
        self._up.pop(sid, None)

    def _find(self, target: str) -> Prefix | None:
        """The longest prefix of a target."""
        return next((each for each in self._prefixes if target.startswith(each.digits)), None)

    def _prefix_of(self, target: str) -> Prefix:
        if prefix := self._find(target):
            return prefix
        if not self._prefixes:
            raise CallRejected(
                NOT_PERMITTED, 403, "outbound calls are off: OUTBOUND_PREFIXES names no prefix"
            )
        allowed = ", ".join(sorted(prefix.digits for prefix in self._prefixes))
        raise CallRejected(
            NOT_PERMITTED, 403, f"OUTBOUND_PREFIXES doesn't allow {target!r}, but {allowed}"
        )
