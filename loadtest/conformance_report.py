"""Checks, what comes of them, and how that is told.

A check is a coroutine function with one argument, the subject that it examines. Its name is the
function's, its meaning the docstring's one line. It returns what is worth remarking (or nothing),
raises `Unmet` when the subject does wrong, and `NotApplicable` when the subject gives no occasion
to judge.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Literal, TypeAlias, TypeVar

from msgspec import Struct

Subject = TypeVar("Subject")
Check: TypeAlias = Callable[[Subject], Awaitable[str | None]]


class Unmet(Exception):
    """The subject does not do what it should: what was expected, and what came."""

    def __init__(self, expected: str, came: str) -> None:
        super().__init__(f"expected {expected}; came {came}")


class NotApplicable(Exception):
    """The subject does nothing that this check could judge; the text says what is missing."""


class Outcome(Struct, frozen=True):
    """What came of one check. `detail` is the remark, or what went wrong."""

    name: str
    meaning: str
    verdict: Literal["passed", "failed", "n/a"]
    detail: str = ""

    def lines(self) -> list[str]:
        """For people: a line with the check, and one with the detail if there is any."""
        first = f"{self.verdict:6}  {self.name}: {self.meaning}"
        return [first, f"        {self.detail}"] if self.detail else [first]


def name_of(check: Check[Subject]) -> str:
    """The check's name as it is printed."""
    return str(check.__name__).replace("_", "-")


def meaning_of(check: Check[Subject]) -> str:
    """What the check asks of its subject, in one line."""
    return (check.__doc__ or "").strip()


async def run_checks(
    checks: Sequence[Check[Subject]],
    subject: Subject,
    tell: Callable[[Outcome], None],
) -> list[Outcome]:
    """Run the checks one after the other, and `tell` of each as soon as it is done.

    The first check is the gate: when it fails, the others could not even begin, and are left out.
    """
    outcomes: list[Outcome] = []
    for check in checks:
        outcome = await _run(check, subject)
        tell(outcome)
        outcomes.append(outcome)
        if outcome.verdict == "failed" and len(outcomes) == 1:
            break
    return outcomes


async def _run(check: Check[Subject], subject: Subject) -> Outcome:
    name, meaning = name_of(check), meaning_of(check)
    try:
        remark = await check(subject)
    except Unmet as unmet:
        return Outcome(name, meaning, "failed", str(unmet))
    except NotApplicable as reason:
        return Outcome(name, meaning, "n/a", str(reason))
    return Outcome(name, meaning, "passed", remark or "")


def summary(outcomes: Iterable[Outcome]) -> str:
    """The last line of a run. Checks that were not applicable count as neither."""
    verdicts = [outcome.verdict for outcome in outcomes]
    return f"{verdicts.count('passed')} passed, {verdicts.count('failed')} failed"
