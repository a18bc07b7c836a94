"""Takes pictures once a second for all who look, and samples for the last hour.

A picture is made and encoded once, in a thread, however many look; who is slow is shown the newest
one next, and nothing waits for them. While nobody looks, a sample each five seconds is all that
happens.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

import msgspec
import structlog

from supervisor.console.history import PERIOD_S, History, Sample
from supervisor.console.picture import CallRow, picture
from supervisor.console.seen import Seen

log = structlog.get_logger()

PICTURE_S: Final = 1.0
MAX_VIEWERS: Final = 16
"""Each costs a connection, and up to 0.2 MB a second with a thousand calls."""


class Feed:
    """`run` it in a task; `close` lets all who look go at once."""

    def __init__(self, look: Callable[[], Seen]) -> None:
        self._look = look
        self._history = History()
        self._seen: Seen | None = None
        self._seen_at_s = 0.0
        self._encoded: dict[bool, asyncio.Task[bytes]] = {}
        self._number = 0
        self._news = asyncio.Event()
        self._failing = False
        self.viewers = 0
        self.closed = False

    @property
    def is_full(self) -> bool:
        """Whether nobody more may look."""
        return self.viewers >= MAX_VIEWERS

    async def run(self) -> None:
        """Look once a second while somebody is there to see it, else when a sample is due."""
        loop = asyncio.get_running_loop()
        next_sample_s = loop.time()
        while not self.closed:
            due = loop.time() >= next_sample_s
            if due:
                next_sample_s = loop.time() + PERIOD_S - PICTURE_S / 2  # before the fifth tick
            if due or self.viewers:
                self._take(sample=due)
            await asyncio.sleep(PICTURE_S)

    def close(self) -> None:
        """Let go of all who look."""
        self.closed = True
        self._tell()

    async def watch(self, *, numbers: bool) -> AsyncGenerator[tuple[str, bytes]]:
        """The last hour, then a picture a second: events by name, with their JSON.

        Whoever takes longer than a second for one misses those in between.
        """
        self.viewers += 1
        try:
            age_s = asyncio.get_running_loop().time() - self._seen_at_s
            if self._seen is None or age_s >= PICTURE_S:
                self._take(sample=False)
            yield "history", msgspec.json.encode(self._past())
            shown = -1
            while not self.closed:
                if shown == self._number:
                    await self._news.wait()
                    continue
                shown = self._number
                if self._seen is not None:
                    yield "now", await self._picture(self._seen, numbers=numbers)
        finally:
            self.viewers -= 1

    def _past(self) -> dict[str, Any]:
        return {
            "period_s": PERIOD_S,
            "call_fields": CallRow.__struct_fields__,
            "samples": self._history.columns(),
        }

    async def _picture(self, seen: Seen, *, numbers: bool) -> bytes:
        """What all of a kind are shown; whoever asks first has it made."""
        if numbers not in self._encoded:
            making = asyncio.to_thread(_encode, seen, self._history.last, numbers)
            self._encoded[numbers] = asyncio.create_task(making)
        return await asyncio.shield(self._encoded[numbers])

    def _take(self, *, sample: bool) -> None:
        """Whatever goes wrong with looking must not hurt what is looked at."""
        try:
            self._seen = self._look()
            if sample:
                self._history.add(self._seen)
        except Exception:  # logged, and the page says that its picture is old
            if not self._failing:
                log.exception("console_failed")
            self._failing = True
            return
        self._failing = False
        self._seen_at_s = asyncio.get_running_loop().time()
        self._encoded = {}
        self._number += 1
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _encode(seen: Seen, sample: Sample | None, numbers: bool) -> bytes:
    return msgspec.json.encode(picture(seen, sample, numbers=numbers))
