"""Scripts: steps on the loop's timers, and digits as RTP payloads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from loadtest.stand_in_digits import Digit, DigitReceiver, digit_payloads
from loadtest.stand_in_script import Script, wait


async def test_script_runs_to_its_end_and_then_goes_on() -> None:
    """Steps run in order, then comes `then`."""
    seen: list[str] = []
    done = asyncio.Event()

    def steps() -> Iterator[float]:
        for step in "abc":
            seen.append(step)
            yield 0.001

    script = Script(steps(), then=done.set)
    await asyncio.wait_for(done.wait(), 1)
    assert seen == ["a", "b", "c"]
    assert not script.running


async def test_stopped_script_does_nothing_more() -> None:
    """Neither the next step nor `then` is called once it was stopped, even from within a step."""
    seen: list[str] = []

    def steps() -> Iterator[float]:
        seen.append("first")
        script.stop()
        yield 0
        seen.append("second")

    script = Script(steps(), then=lambda: seen.append("then"))
    later = asyncio.Event()
    Script(wait(0.02), then=later.set)
    await asyncio.wait_for(later.wait(), 1)
    assert seen == ["first"]


def test_digit_payloads_grow_and_end_three_times() -> None:
    """100 ms of "5": event 5, volume 10, ticks of 8 kHz, and the end bit on the last three."""
    assert [payload.hex() for payload in digit_payloads("5", 100)] == [
        "050a00a0",
        "050a0140",
        "050a01e0",
        "050a0280",
        "058a0320",
        "058a0320",
        "058a0320",
    ]


@pytest.mark.parametrize("digit", list("0123456789*#ABCD"))
def test_digit_is_received_once(digit: str) -> None:
    """What is sent comes out again, once, with its duration."""
    receiver = DigitReceiver()
    got = [receiver.push(payload, 4000) for payload in digit_payloads(digit, 160)]
    assert [found for found in got if found] == [Digit(digit, 160)]


def test_same_digit_pressed_twice_is_two_digits() -> None:
    """Two events with different timestamps are two key presses."""
    receiver = DigitReceiver()
    end = bytes.fromhex("018a0320")
    assert receiver.push(end, 1000)
    assert receiver.push(end, 1000) is None
    assert receiver.push(end, 3000) == Digit("1", 100)


@pytest.mark.parametrize("payload", ["", "018a03", "108a0320", "ff8a0320"])
def test_unusable_event_is_no_digit(payload: str) -> None:
    """Short payloads and events that are no keys (16 is a hook flash) are passed over."""
    assert DigitReceiver().push(bytes.fromhex(payload), 0) is None
