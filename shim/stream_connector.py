"""Reaches the voice server: at the start of a call, and again when the connection is lost.

Each outage has a budget of time for all its tries; when it is spent, the fallback voice server, if
there is one, gets as much again.
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final

import structlog

from shim.agent_link import LinkListener
from shim.control import CallSpec
from shim.link_opener import LinkError, LinkOpener

log = structlog.get_logger()

RETRY_FIRST_S: Final = 0.1
RETRY_MOST_S: Final = 2.0
MAX_REASON: Final = 200
"""Of a voice server's refusal, so many characters are passed on."""


class StreamConnector:
    """Opens the links of one call.

    Args:
        call: where to.
        budget_s: for all tries of an outage, at each of the two URLs.
        on_failed: called with the reason when the voice server could not be reached.
    """

    def __init__(
        self,
        call: CallSpec,
        opener: LinkOpener,
        budget_s: float,
        on_failed: Callable[[str], None],
    ) -> None:
        self._call = call
        self._opener = opener
        self._budget_ns = int(budget_s * 1e9)
        self._on_failed = on_failed
        self._task: asyncio.Task[None] | None = None
        self._outage_ns = 0
        self._connected_ns = 0
        self._delay_s = 0.0
        self._fell_back = False
        self._log = log.bind(call_id=call.call_sid)

    @property
    def reconnecting(self) -> bool:
        """Whether a voice server that was lost is being reached again."""
        return self._connected_ns > 0 and self._task is not None and not self._task.done()

    def connect(self, owner: LinkListener) -> None:
        """Begin to open a link; its `on_open` is the success.

        A link that has not held as long as the budget belongs to the same outage, of which only
        the time without a link counts: a voice server that accepts and drops again and again is
        neither tried for ever nor without a pause.
        """
        now_ns = time.monotonic_ns()
        spent_ns = self._connected_ns - self._outage_ns
        if not self._outage_ns or now_ns - self._connected_ns > self._budget_ns:
            spent_ns = 0
            self._delay_s = 0.0
            self._fell_back = False
        self._outage_ns = now_ns - spent_ns
        self._task = asyncio.create_task(self._connect(owner))
        self._task.add_done_callback(self._finished)

    def connected(self) -> float:
        """The link is open; returns the ms since the outage began."""
        self._connected_ns = time.monotonic_ns()
        return (self._connected_ns - self._outage_ns) / 1e6

    def stop(self) -> None:
        """Give up what is under way; from now on nobody is told of anything."""
        self._on_failed = _ignore
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _connect(self, owner: LinkListener) -> None:
        deadline_ns = self._outage_ns + self._budget_ns
        reason = await self._try(self._call.url, owner, deadline_ns)
        if reason and self._call.fallback_url:
            if not self._fell_back:
                self._log.warning("stream_falls_back", reason=reason)
                self._fell_back = True
                self._delay_s = 0.0
            reason = await self._try(self._call.fallback_url, owner, deadline_ns + self._budget_ns)
        if reason:
            self._on_failed(f"voice server unreachable: {reason}")

    async def _try(self, url: str, owner: LinkListener, deadline_ns: int) -> str:
        """Open a link, again and again until the deadline; returns why not, empty if it is open."""
        said = "lost again and again"
        while (left_s := (deadline_ns - time.monotonic_ns()) / 1e9) > self._delay_s:
            pause_s = self._delay_s * random.uniform(0.5, 1)
            self._delay_s = min(max(2 * self._delay_s, RETRY_FIRST_S), RETRY_MOST_S)
            await asyncio.sleep(pause_s)
            try:
                await self._opener.open(url, owner, left_s - pause_s, self._call.traceparent)
            except LinkError as error:
                if (why := str(error)[:MAX_REASON]) != said:
                    said = why
                    self._log.warning("stream_unreachable", reason=said)
            else:
                return ""
        return said

    def _finished(self, task: asyncio.Task[None]) -> None:
        """The task's edge: an error that nobody expected ends the stream, not the worker."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("stream_task_failed", exc_info=error)
            self._on_failed("internal error")


def _ignore(reason: str) -> None:
    """Who hears of failures when the call is over."""
