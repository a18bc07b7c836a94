"""Who calls, as it may stand on a screen: enough to tell two calls apart, not who it is. Pure."""

import re
from typing import Final

DOTS: Final = "••••"
SHOWN_DIGITS: Final = 2
LEAST_DIGITS: Final = 7
"""Of a shorter number, such as an extension, two digits would be too much of it."""
MAX_SHOWN: Final = 64
"""A name comes from a stranger and can be of any length."""
_NUMBER: Final = re.compile(r"(?:sips?:)?\+?([0-9]+)(?:@.*)?", re.DOTALL)


def masked(party: str) -> str:
    """A number's last two digits behind dots; of anything else, such as a name, nothing."""
    if not party:
        return ""
    number = _NUMBER.fullmatch(party)
    if number is None or len(number[1]) < LEAST_DIGITS:
        return DOTS
    return f"{DOTS} {number[1][-SHOWN_DIGITS:]}"


def shown(party: str) -> str:
    """A number or name as it is, cut off where it is too long."""
    return party if len(party) <= MAX_SHOWN else party[: MAX_SHOWN - 1] + "…"
