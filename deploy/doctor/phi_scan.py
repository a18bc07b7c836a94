"""Looks for callers' data in logs: numbers, SIP addresses with numbers, what was said. Pure.

It finds what looks like such data; names, dates of birth and the like in free text it can't see.
"""

import re
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

PATTERNS: Final = {
    "phone number": re.compile(r"(?<![\w+.-])\+[1-9][0-9]{6,14}(?![0-9A-Za-z])"),
    "SIP or tel address with a number": re.compile(r"\b(?:sips?|tel):\+?[0-9]{7,15}\b", re.I),
    "number under a caller's key": re.compile(
        r"""["']?\b(?:from|to|caller|called|caller_?id|number|ani|dnis)["']?\s*[=:]\s*["']?"""
        r"""\+?[0-9]{7,15}\b""",
        re.I,
    ),
    "what was said": re.compile(
        r"""["']?\b(?:transcript|transcription|utterance)["']?\s*[=:]\s*["'][^"']""", re.I
    ),
}
"""E.164 allows 15 digits; fewer than 7 with a plus are no public number anywhere."""


class PhiFacts(Struct, frozen=True):
    """What was found in one log: how many lines were read, and by kind how many hits and where."""

    path: str
    lines: int
    hits: dict[str, int]
    first_line: dict[str, int]
    problem: str = ""


def scan(path: str, lines: Iterable[str]) -> PhiFacts:
    """Look at each line; nothing of its content goes into the answer."""
    hits: dict[str, int] = {}
    first: dict[str, int] = {}
    number = 0
    for number, line in enumerate(lines, 1):
        for kind, pattern in PATTERNS.items():
            if pattern.search(line):
                hits[kind] = hits.get(kind, 0) + 1
                first.setdefault(kind, number)
    return PhiFacts(path, number, hits, first)
