"""Nothing of what a caller is or says comes out of the system, unless the operator wants it to."""

import json
from collections.abc import Iterator, Mapping

import pytest

from loadtest import audio
from tests.phi_search import CALLED, CALLER, DIGITS, Found, Search
from tests.supervisor.stack import RunningStack

SEARCH = Search([CALLER, CALLED], [DIGITS], [])
KEYS_FRAMES = 50 * (1 + len(DIGITS) // 2)
"""Within so many frames after the answer all keys were pressed."""


def leaks(texts: Mapping[str, str]) -> list[Found]:
    """What is found in texts by name."""
    return [found for name, text in texts.items() for found in SEARCH.look(name, text.encode())]


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    """The whole system, as talkative as it can be."""
    with RunningStack(settings={"LOG_LEVEL": "DEBUG"}) as running:
        yield running


async def test_nothing_of_a_call_is_told(stack: RunningStack) -> None:
    """Numbers and keys are in no log, metric or state, also when a worker dies in between."""
    digits = tuple((0.5 + 0.4 * index, digit) for index, digit in enumerate(DIGITS))
    plan = {"digits": digits, "audio": audio.tone(440.0, 1.0)}
    states = {}
    async with stack.calling(**plan) as call:
        await stack.until_up()
        worker = next(worker["worker"] for worker in stack.workers() if worker["calls"])
        stack.kill_worker(worker)
        await stack.until(lambda: stack.events("call_moved"), "the call has moved")
        await stack.until_audio(call)
        await stack.until(lambda: len(call.heard_since(0)) > KEYS_FRAMES, "all keys were pressed")
        states = {path: stack.http("GET", path)[1] for path in ("/health", "/metrics")}
    await stack.until_idle()
    logs = {part.name: part.log for part in (stack.supervisor, stack.agent)}
    assert stack.events("call_ended")
    assert leaks({**logs, **states}) == []


def test_what_is_planted_is_found(stack: RunningStack) -> None:
    """The search would find a number in a log line, and a key in a state."""
    planted = {"a log": f'{{"event": "x"}}\n{{"from": "+{CALLER}"}}', "a state": f"keys {DIGITS}"}
    found = leaks({**planted, "supervisor": stack.supervisor.log})
    assert {(each.where, each.line) for each in found} == {("a log", 2), ("a state", 1)}


async def test_each_line_about_a_call_names_it(stack: RunningStack) -> None:
    """Every line is JSON with an event; whatever mentions a call has its `call_id`."""
    async with stack.calling():
        await stack.until_up()
    await stack.until_idle()
    lines = [json.loads(line) for line in stack.supervisor.log.splitlines()]
    assert all(line["event"] and line["process"] for line in lines)
    of_calls = [line for line in lines if '"CA' in json.dumps(line)]
    assert all(line["call_id"].startswith("CA") for line in of_calls)
    names = {line["event"] for line in of_calls}
    assert names >= {"call_placed", "stream_started", "call_ended"}
