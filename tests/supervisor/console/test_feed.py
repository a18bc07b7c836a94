"""When the console looks, and what those get who watch."""

import asyncio
from collections.abc import AsyncGenerator

import msgspec
import pytest

from supervisor.console import feed as feed_module
from supervisor.console.feed import Feed
from supervisor.console.seen import Seen
from tests.shim.polling import until
from tests.supervisor.console.make import call, seen


class Looks:
    """Counts looks; each sees one call more than the one before."""

    def __init__(self) -> None:
        self.count = 0
        self.broken = False

    def look(self) -> Seen:
        """See something new."""
        self.count += 1
        if self.broken:
            raise ZeroDivisionError
        return seen(*[call(sid=f"CA{n}") for n in range(self.count)], unix_s=float(self.count))


async def read(events: AsyncGenerator[tuple[str, bytes], None], wanted: str = "now") -> int:
    """How many calls the next picture has."""
    async for name, data in events:
        if name == wanted:
            return len(msgspec.json.decode(data)["calls"])
    raise AssertionError("the feed has ended")


async def test_nothing_happens_while_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a sample, when it is due."""
    monkeypatch.setattr(feed_module, "PICTURE_S", 0.001)
    looks = Looks()
    feed = Feed(looks.look)
    running = asyncio.create_task(feed.run())
    for _ in range(100):  # as many ticks, or more
        await asyncio.sleep(0.002)
    assert looks.count < 50
    feed.close()
    await running


async def test_all_see_the_same_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """One look serves all who come until the next one is due."""
    monkeypatch.setattr(feed_module, "PICTURE_S", 3600.0)
    looks = Looks()
    feed = Feed(looks.look)
    watching = [feed.watch(numbers=False) for _ in range(3)]
    assert [await read(events) for events in watching] == [1, 1, 1]
    assert feed.viewers == 3
    assert looks.count == 1
    for events in watching:
        await events.aclose()
    assert feed.viewers == 0


async def test_who_is_slow_sees_the_newest() -> None:
    """Pictures in between are skipped, not kept."""
    looks = Looks()
    feed = Feed(looks.look)
    running = asyncio.create_task(feed.run())
    events = feed.watch(numbers=False)
    assert await read(events) == 1
    await until(lambda: looks.count == 3, "two more pictures")
    assert await read(events) == 3
    await events.aclose()
    feed.close()
    await running


async def test_the_end_comes_at_once() -> None:
    """Who waits for a picture is let go, and so is the task."""
    feed = Feed(Looks().look)
    events = feed.watch(numbers=False)
    assert await read(events) == 1
    waiting = asyncio.create_task(read(events))
    await asyncio.sleep(0)
    feed.close()
    with pytest.raises(AssertionError, match="ended"):
        await waiting
    assert feed.viewers == 0
    await feed.run()


async def test_a_fault_of_the_console_stays_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """It is logged once; those who look get no picture until it is over."""
    looks = Looks()
    feed = Feed(looks.look)
    running = asyncio.create_task(feed.run())
    events = feed.watch(numbers=False)
    assert await read(events) >= 1
    before, looks.broken = looks.count, True
    await until(lambda: looks.count >= before + 2, "two failures")
    looks.broken = False
    while await read(events) <= before + 2:
        pass  # a picture from before may have waited
    assert not running.done()
    assert capsys.readouterr().out.count("console_failed") == 1
    await events.aclose()
    feed.close()
    await running


async def test_the_last_hour_comes_first() -> None:
    """Samples by field, and the names of a call's fields."""
    looks = Looks()
    feed = Feed(looks.look)
    running = asyncio.create_task(feed.run())
    await until(lambda: looks.count, "the first sample")
    events = feed.watch(numbers=False)
    name, data = await anext(events)
    past = msgspec.json.decode(data)
    assert name == "history"
    assert past["call_fields"][:2] == ["sid", "caller"]
    assert past["samples"]["unix_s"] == [1]
    assert past["samples"]["calls"] == [1]
    await events.aclose()
    feed.close()
    await running
