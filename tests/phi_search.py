"""Looks for callers' data in what the system wrote, and says where there may be some. Pure.

The tests' callers have numbers, press keys and say words; the system must keep all of it to itself.
Each number in a test's source is searched for, with its plus or without, and besides whatever looks
like a number at all, so a new test needs nothing of this.
"""

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Final

from msgspec import Struct

CALLER: Final = "15557654321"
"""Who calls where a test says nothing else."""
CALLED: Final = "15551239876"
"""Whom they call."""
DIGITS: Final = "739146"
"""A secret, typed on the keys."""
WORDS: Final = ("hello there", "i have a cough", "this is the answer")
"""What is said in calls with a voice agent; in small letters."""

SHAPES: Final = {
    "a number": (rb"\+[1-9][0-9]{6,14}", rb"%2b[1-9][0-9]{6,14}"),
    "a SIP or tel address": (
        rb"sip:\+?[0-9]{7,15}",
        rb"sips:\+?[0-9]{7,15}",
        rb"tel:\+?[0-9]{7,15}",
    ),
    "pressed keys": (rb'"digits?" ?: ?"[0-9*#]', rb"digits=[0-9*#]", rb"dtmf=[0-9*#]"),
    "a transcript": (rb'"transcript" ?: ?"[^"]', rb'"text" ?: ?"[^"]'),
}
"""What callers' data looks like, in small letters. Each begins with text, so a search is quick."""
LITERAL: Final = re.compile(r"\+([1-9]\d{6,14})\b")
EXCERPT_BYTES: Final = 160


class Place(Struct, frozen=True):
    """Where callers' data may be: a pattern (fnmatch) of the place's name, and the reason."""

    where: str
    why: str


class Found(Struct, frozen=True):
    """Callers' data somewhere: what it is, the place, the line, and what stands around it."""

    what: str
    where: str
    line: int
    excerpt: str

    def __str__(self) -> str:
        return f"{self.what} in {self.where}, line {self.line}: {self.excerpt}"


class Search:
    """Searches for these numbers (digits only), secrets and words, and for `SHAPES`."""

    def __init__(
        self, numbers: Iterable[str], secrets: Iterable[str], words: Iterable[str]
    ) -> None:
        spelled = [
            spelling
            for secret in secrets
            for spelling in (secret, " ".join(secret), ",".join(secret), ", ".join(secret))
        ]
        self._bounded = {text.encode() for text in (*numbers, *spelled)}
        self._words = {word.lower().encode() for word in words}
        self._shapes = [
            (what, re.compile(shape)) for what, shapes in SHAPES.items() for shape in shapes
        ]

    def look(self, where: str, data: bytes) -> list[Found]:
        """All that is found, each kind once in a line."""
        data = data.lower()
        hits = {(what, _line(data, at)): at for what, at in self._hits(data)}
        return [Found(what, where, line, _excerpt(data, at)) for (what, line), at in hits.items()]

    def _hits(self, data: bytes) -> Iterator[tuple[str, int]]:
        for word in self._words:
            yield from (("what was said", at) for at in _everywhere(word, data))
        for text in self._bounded:
            for at in _everywhere(text, data):
                if _stands_alone(data, at, at + len(text)):
                    yield f"the canary {text.decode()}", at
        for what, shape in self._shapes:
            yield from ((what, match.start()) for match in shape.finditer(data))


def numbers_in(sources: Iterable[str]) -> set[str]:
    """The digits of all numbers in E.164 that these texts hold."""
    return {match[1] for text in sources for match in LITERAL.finditer(text)}


def not_by_design(found: Iterable[Found], places: Iterable[Place]) -> list[Found]:
    """What is found elsewhere than where it may be."""
    allowed = [place.where for place in places]
    return [each for each in found if not any(fnmatchcase(each.where, where) for where in allowed)]


def _everywhere(text: bytes, data: bytes) -> Iterator[int]:
    at = data.find(text)
    while at >= 0:
        yield at
        at = data.find(text, at + 1)


def _stands_alone(data: bytes, begin: int, end: int) -> bool:
    """Whether digits are a number of their own, and no part of an id or of a longer one."""
    before, after = data[max(0, begin - 1) : begin], data[end : end + 1]
    return not (before.isalnum() or before == b"." or after.isalnum())


def _line(data: bytes, at: int) -> int:
    return data.count(b"\n", 0, at) + 1


def _excerpt(data: bytes, at: int) -> str:
    begin = max(data.rfind(b"\n", 0, at) + 1, at - EXCERPT_BYTES // 2)
    end = data.find(b"\n", at)
    return data[begin : min(end if end >= 0 else len(data), begin + EXCERPT_BYTES)].decode(
        errors="replace"
    )
