"""What a real supervisor with real workers and calls shows, on the stand-in for Asterisk."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from loadtest.phone_plan import BadNetwork
from tests.supervisor.console.sse import until_event
from tests.supervisor.stack import API_TOKEN, RunningStack

PATIENCE_S = 20.0


class Watch:
    """A console's stream; calls by field."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.picture: dict[str, Any] = {}
        self.calls: list[dict[str, Any]] = []
        self._fields: list[str] = []

    async def until(self, condition: str) -> None:
        """Look on until a picture fits."""
        deadline = time.monotonic() + PATIENCE_S
        if not self._fields:
            self._fields = (await until_event(self._answer, "history"))["call_fields"]
        while True:
            self.picture = await until_event(self._answer, "now")
            self.calls = [
                dict(zip(self._fields, row, strict=True)) for row in self.picture["calls"]
            ]
            if self._fits(condition):
                return
            assert time.monotonic() < deadline, f"{condition}: {self.picture}"

    def _fits(self, condition: str) -> bool:
        match condition:
            case "no calls":
                return not self.calls
            case "heard":
                return bool(self.calls) and all((call["mos"] or 0) > 0 for call in self.calls)
            case "suffers":
                return any(call["level"] == 2 for call in self.calls)
            case "died":
                return any(worker["died_s"] is not None for worker in self.picture["workers"])
        raise ValueError(condition)


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    """A stack that all tests share which leave it as it was."""
    with RunningStack() as running:
        yield running
    assert "Traceback" not in running.supervisor.log


@asynccontextmanager
async def watching(stack: RunningStack) -> AsyncIterator[Watch]:
    """Somebody who looks."""
    url = f"{stack.http_base}/console/live"
    headers = {"Authorization": f"Bearer {API_TOKEN}"}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        yield Watch(answer)


async def test_a_call_and_its_worker(stack: RunningStack) -> None:
    """From the first frame to the end; ports and CPU of the worker that has it."""
    async with watching(stack) as watch:
        await watch.until("no calls")
        async with stack.calling(from_user="+14155550123"):
            await watch.until("heard")
            (call,) = watch.calls
            assert (call["caller"], call["direction"], call["state"]) == ("•••• 23", "in", "up")
            assert (call["stream"], call["reconnects"], call["loss"]) == ("up", 0, 0.0)
            assert call["packets_in"] > 0
            assert call["packets_out"] > 0
            assert call["first_audio_ms"] is not None
            worker = watch.picture["workers"][call["worker"]]
            assert (worker["state"], worker["calls"], worker["ports"]["leased"]) == ("ready", 1, 1)
            assert sum(leased for leased, _ in worker["cells"]) == 1
            assert worker["heartbeat_s"] < 1.0
            assert worker["rss_bytes"] > 0
            node = watch.picture["node"]
            assert (node["calls"], node["ari"]["connected"]) == (1, True)
            assert node["capacity"]["left"] == node["capacity"]["most"] - 1
        await watch.until("no calls")
        resting = sum(resting for each in watch.picture["workers"] for _, resting in each["cells"])
        assert resting >= 1
    await stack.until_idle()


async def test_loss_of_the_last_seconds(stack: RunningStack) -> None:
    """Counted over the last seconds only, and said in words."""
    network = BadNetwork(loss_share=0.2)
    async with stack.calling(network=network), watching(stack) as watch:
        await watch.until("suffers")
        (call,) = watch.calls
        assert 0.03 < call["loss"] < 0.5
        assert any(reason.startswith("loss ") for reason in call["reasons"])
        assert watch.picture["node"]["suffering"] == 1
    await stack.until_idle()


async def test_a_worker_that_has_died(stack: RunningStack) -> None:
    """Its death is news, also when another process has its place."""
    async with watching(stack) as watch:
        await watch.until("no calls")
        stack.kill_worker(1)
        await watch.until("died")
        assert watch.picture["workers"][1]["deaths"] == 1
        assert watch.picture["workers"][0]["died_s"] is None
    await stack.until(lambda: stack.workers()[1]["state"] == "ready", "another worker")
