"""Keeps our picture of the calls true to Asterisk's: its events, and what was missed of them."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from supervisor.ari_events import REPLACED, AriError, AriEvent
from supervisor.ari_link import AriLink, AriSettings
from supervisor.ari_meaning import Differences, interpret, reconcile
from supervisor.call_control import CallControl
from supervisor.call_names import CallNames
from supervisor.call_table import CallTable

log = structlog.get_logger()

LOOK_AGAIN_S: Final = (2.0, 10.0)
"""Events can fall between a connection's loss and the list, and a request that timed out can
still be carried out a little later: so we look again, so long after each look."""


class AsteriskWatch:
    """Listens to ARI. `connected` and `why` say how that goes.

    Args:
        on_replaced: another supervisor has taken the app over.
    """

    def __init__(
        self,
        settings: AriSettings,
        table: CallTable,
        names: CallNames,
        on_replaced: Callable[[], None],
    ) -> None:
        self._table = table
        self._names = names
        self._on_replaced = on_replaced
        self._looking: asyncio.Task[None] | None = None
        self.ari = AriLink(settings, self._on_event, self._on_state)
        self.control: CallControl
        self.connected = False
        self.why = "not tried yet"

    async def run(self) -> None:
        """Listen until `stop`."""
        try:
            await self.ari.run()
        finally:
            if self._looking is not None:
                self._looking.cancel()

    def stop(self) -> None:
        """Listen no longer; requests stay possible."""
        self.ari.stand_down()

    def _on_event(self, event: AriEvent) -> None:
        if event.type == REPLACED:
            log.error("replaced_by_another_supervisor", app=event.application)
            self._on_replaced()
            return
        happened = interpret(event, self._names)
        if happened is not None:
            self.control.happen(happened)

    def _on_state(self, connected: bool, why: str) -> None:
        self.connected = connected
        self.why = why
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if connected:
            self._looking = asyncio.create_task(self._look_repeatedly())

    async def _look_repeatedly(self) -> None:
        await self._look()
        for pause_s in LOOK_AGAIN_S:
            await asyncio.sleep(pause_s)
            await self._look()

    async def _look(self) -> None:
        """Compare our calls with what Asterisk has, and make up for the differences."""
        asked_ns = time.monotonic_ns()
        try:
            channels = await self.ari.list_channels()
            bridges = await self.ari.list_bridges()
            calls = self._table.calls
            await self._settle(reconcile(calls, channels, bridges, self._names, asked_ns))
        except AriError as error:
            # Without an answer the connection breaks too, and the next one starts anew.
            log.warning("not_reconciled", reason=str(error))

    async def _settle(self, found: Differences) -> None:
        for event in found.events:
            log.info("event_made_up_for", kind=type(event).__name__)
            self.control.happen(event)
        for channel_id in found.orphan_channels:
            log.warning("orphan_removed", channel=channel_id)
            await self.ari.delete_channel(channel_id)
        for bridge_id in found.orphan_bridges:
            log.warning("orphan_removed", bridge=bridge_id)
            await self.ari.delete_bridge(bridge_id)
