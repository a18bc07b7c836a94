"""An owner of a link to ARI that writes down what it is told."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from supervisor.ari.events import AriEvent
from supervisor.ari.link import AriLink, AriSettings
from tests.supervisor.ari_server import APP, PASSWORD, USER

UP = (True, "connected")


class Owner:
    """Has a link, runs it, and writes down what it is told, in order."""

    def __init__(self, base: str, **changes: Any) -> None:
        values = {"user": USER, "password": PASSWORD, "app": APP, **changes}
        self.told: list[AriEvent | tuple[bool, str]] = []
        self.reactions: dict[str, Callable[[], None]] = {}
        self.link = AriLink(AriSettings(base=base, **values), self.on_event, self.on_state)

    def on_event(self, event: AriEvent) -> None:
        """Take an event, and react as the test wants."""
        self.told.append(event)
        if event.type in self.reactions:
            self.reactions[event.type]()

    def on_state(self, connected: bool, why: str) -> None:
        """Take a change of the connection."""
        self.told.append((connected, why))

    @property
    def events(self) -> list[str]:
        """The types of the events so far."""
        return self.events_since(0)

    def events_since(self, heard: int) -> list[str]:
        """The types of the events after the first `heard` things that were told."""
        return [item.type for item in self.told[heard:] if isinstance(item, AriEvent)]

    @property
    def states(self) -> list[tuple[bool, str]]:
        """The changes of the connection so far."""
        return [item for item in self.told if isinstance(item, tuple)]

    def ups(self) -> int:
        """How often the connection has come up."""
        return self.states.count(UP)


@asynccontextmanager
async def running(owner: Owner) -> AsyncIterator[asyncio.Task[None]]:
    """The owner's link at work; at the end it must stop within a second."""
    async with asyncio.TaskGroup() as group, owner.link as link:
        yield group.create_task(link.run())
        async with asyncio.timeout(1):
            await link.close()


def event(kind: str, **fields: object) -> str:
    """An event's JSON."""
    return json.dumps({"type": kind, "application": APP, **fields})
