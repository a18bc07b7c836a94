"""Misbehaviour on request: what a fault test asks of the stand-in, and what is left of it. Pure
but for one asyncio.Event on which withheld answers wait.

A test sends `Faults` as JSON to `PUT /stand-in/faults`; what is left out has its harmless default:

    {"rest": [{"action": "status", "status": 503, "method": "POST", "path": "/ari/bridges/*"}],
     "events": [{"action": "drop", "type": "StasisEnd", "count": 2}],
     "answer_delay_ms": 200}
"""

from __future__ import annotations

import asyncio
from fnmatch import fnmatchcase
from typing import Annotated, Literal, TypeVar

from msgspec import Meta, Struct, structs

Count = Annotated[int, Meta(ge=1)]
Milliseconds = Annotated[int, Meta(ge=0)]


class RestFault(Struct, frozen=True, forbid_unknown_fields=True):
    """What happens to the next `count` requests that match.

    `status` answers with `status`, `hang` never answers, `drop` closes the connection without an
    answer, as Asterisk does at its sessionlimit. `path` is a shell pattern for the whole path, e.g.
    `/ari/bridges/*/addChannel`; `*` matches slashes too. `method` is a pattern as well. With
    `done` the request takes effect first, so that only its answer is lost.
    """

    action: Literal["status", "hang", "drop"]
    method: str = "*"
    path: str = "/ari/*"
    status: Annotated[int, Meta(ge=400, le=599)] = 500
    count: Count = 1
    done: bool = False


class EventFault(Struct, frozen=True, forbid_unknown_fields=True):
    """What happens to the next `count` events whose type matches the shell pattern `type`.

    `delay`: sent `delay_ms` later, while others pass. `reorder`: sent after the event that follows,
    or after `delay_ms` if none does. `duplicate`: sent twice. `drop`: never sent.
    """

    action: Literal["delay", "duplicate", "reorder", "drop"]
    type: str = "*"
    count: Count = 1
    delay_ms: Milliseconds = 100


class Faults(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that is wrong from now on. Where several rules match, the first one is used.

    `silent`: connections are accepted, requests and pings never answered, no events sent; what
    waits is sent once this is over (answers are not). `early_stasis_start`: StasisStart of an
    external media channel comes before its POST is answered; else `external_start_delay_ms` after.
    `ring_ms`: calls ring so long before they are answered, so that there is time for a CANCEL.
    """

    rest: tuple[RestFault, ...] = ()
    events: tuple[EventFault, ...] = ()
    answer_delay_ms: Milliseconds = 0
    silent: bool = False
    early_stasis_start: bool = False
    external_start_delay_ms: Milliseconds = 1
    ring_ms: Milliseconds = 0


F = TypeVar("F", RestFault, EventFault)


class FaultPlan:
    """The faults in force, with the counts that are left."""

    def __init__(self) -> None:
        self.faults = Faults()
        self._over = asyncio.Event()

    def set(self, faults: Faults) -> None:
        """Replace all faults. Requests that were left hanging are dropped now."""
        self.faults = faults
        self._over.set()
        self._over = asyncio.Event()

    async def until_replaced(self) -> None:
        """Wait until other faults are set."""
        await self._over.wait()

    async def until_speaking(self) -> None:
        while self.faults.silent:
            await self.until_replaced()

    def take_rest(self, method: str, path: str) -> RestFault | None:
        """The fault for this request, counted as used."""
        for fault in self.faults.rest:
            if fnmatchcase(method, fault.method) and fnmatchcase(path, fault.path):
                left = _less_one(self.faults.rest, fault)
                self.faults = structs.replace(self.faults, rest=left)
                return fault
        return None

    def take_event(self, kind: str) -> EventFault | None:
        """The fault for this event, counted as used."""
        for fault in self.faults.events:
            if fnmatchcase(kind, fault.type):
                left = _less_one(self.faults.events, fault)
                self.faults = structs.replace(self.faults, events=left)
                return fault
        return None


def _less_one(faults: tuple[F, ...], used: F) -> tuple[F, ...]:
    """The faults with one use of `used` taken away."""
    left = list(faults)
    index = left.index(used)
    left[index : index + 1] = [structs.replace(used, count=used.count - 1)] * (used.count > 1)
    return tuple(left)
