"""How checks are run and told."""

import pytest

from loadtest import conformance_bot, conformance_stack_orders, conformance_stack_stream
from loadtest.conformance_report import (
    Check,
    NotApplicable,
    Outcome,
    Unmet,
    meaning_of,
    name_of,
    run_checks,
    summary,
)

ALL = (
    *conformance_bot.CHECKS,
    *conformance_stack_stream.CHECKS,
    *conformance_stack_orders.CHECKS,
)


async def is_even(number: int) -> str | None:
    """It is divisible by two."""
    if number == 0:
        raise NotApplicable("nothing to divide")
    if number % 2:
        raise Unmet("an even number", str(number))
    return None


async def is_small(number: int) -> str | None:
    """It has one digit."""
    return f"{number} has"


CHECKS = (is_even, is_small)


@pytest.mark.parametrize(
    ("number", "last", "lines"),
    [
        (2, "2 passed, 0 failed", ["passed  is-even: It is divisible by two."]),
        (
            0,
            "1 passed, 0 failed",
            ["n/a     is-even: It is divisible by two.", "        nothing to divide"],
        ),
        (
            3,
            "0 passed, 1 failed",
            [
                "failed  is-even: It is divisible by two.",
                "        expected an even number; came 3",
            ],
        ),
    ],
)
async def test_checks_are_run_and_told(number: int, last: str, lines: list[str]) -> None:
    """Each as soon as it is done; behind a first one that fails there are no others."""
    told: list[Outcome] = []
    outcomes = await run_checks(CHECKS, number, told.append)
    assert told == outcomes
    assert outcomes[0].lines() == lines
    assert [outcome.detail for outcome in outcomes[1:]] == ([f"{number} has"] * (number != 3))
    assert summary(outcomes) == last


async def test_a_later_failure_holds_up_nothing() -> None:
    """Only the first check is a gate."""
    outcomes = await run_checks((is_small, is_even, is_small), 3, lambda _: None)
    assert [outcome.verdict for outcome in outcomes] == ["passed", "failed", "passed"]
    assert summary(outcomes) == "2 passed, 1 failed"


@pytest.mark.parametrize("check", ALL)
def test_every_check_says_what_it_means(check: Check[object]) -> None:
    """In one line, that ends as a sentence."""
    meaning = meaning_of(check)
    assert "\n" not in meaning
    assert meaning.endswith((".", ")."))


def test_names_are_unique() -> None:
    """So that a line of a log can be found again."""
    names = [name_of(check) for check in ALL]  # type: ignore[arg-type]
    assert len(set(names)) == len(names)
