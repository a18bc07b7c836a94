"""A script: a generator that acts and yields the seconds until its next step, run by loop timers.

Tones, digits and SIP retransmissions of the stand-in are scripts. Unlike a task a script stops at
once and needs no awaiting, so a call can be torn down inside a datagram's callback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator


class Script:
    """Runs `steps` from now on, on absolute deadlines, then calls `then` unless it was stopped."""

    def __init__(self, steps: Iterator[float], then: Callable[[], None] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._steps = steps
        self._then = then
        self._due_s = self._loop.time()
        self._timer: asyncio.Handle | None = self._loop.call_soon(self._step)

    @property
    def running(self) -> bool:
        return self._timer is not None

    def stop(self) -> None:
        """End it now; `then` is not called. May be called from within a step, and twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _step(self) -> None:
        try:
            self._due_s += next(self._steps)
        except StopIteration:
            if self.running:
                self._timer = None
                if self._then is not None:
                    self._then()
            return
        except BaseException:
            self._timer = None
            raise  # the loop's exception handler reports it
        if self.running:
            self._timer = self._loop.call_at(self._due_s, self._step)


def wait(seconds: float) -> Iterator[float]:
    """A script that does nothing for a while: for its `then`."""
    yield seconds
