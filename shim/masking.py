"""Takes callers' data out of what is logged: phone numbers however they are written, keys. Pure.

Our own texts name no caller. But reasons quote what a peer or an order said, and so do exceptions.
`voice_agent/masking.py` is its copy: that package takes nothing from here.
"""

import re
from collections.abc import Mapping
from typing import Final

MASK: Final = "***"
NUMBER: Final = re.compile(
    r"""
      (?:\+|%2B) [1-9] (?: [ .()/-]{0,2} \d ){6,14}         # E.164, also as people write it
    | (?<=sip:) \d{5,15} | (?<=sips:) \d{5,15} | (?<=tel:) \d{5,15}
    | (?<![A-Za-z0-9.+-]) \d{10,15} (?! [\w-] | \.\d )      # E.164 without its plus
    | (?<![\w.+-]) (?: 1[ .-] )? \(? [2-9]\d\d \)? [ .-]{1,2} [2-9]\d\d [ .-] \d{4} (?!\w)
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""A phone number. Asterisk's ids (`1763985736.12`), ours (CA and 32 hex digits), times with their
punctuation, and counts of nanoseconds (over 15 digits) are none."""
KEYS: Final = re.compile(r"\b(digits|dtmf|speechresult)(=|%3D)[^&\s'\"]+", re.IGNORECASE)
"""What a caller pressed or said, in the query of a URL."""


def mask(text: str) -> str:
    """The text, with `***` in the place of each number, and of what was pressed."""
    return KEYS.sub(rf"\1\2{MASK}", NUMBER.sub(MASK, text))


def masked(value: object) -> object:
    """The value of a field, all text in it masked; what is no JSON becomes masked text."""
    if isinstance(value, str):
        return mask(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {mask(str(key)): masked(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [masked(each) for each in value]
    return mask(repr(value))
