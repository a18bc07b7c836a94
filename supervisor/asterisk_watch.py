"""Keeps our picture of the calls true to Asterisk's: its events, and what was missed of them."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from supervisor.ari.events import REPLACED, AriError, AriEvent
from supervisor.ari.link import AriLink, AriSettings
from supervisor.calls.ari_meaning import Differences, interpret, reconcile
from supervisor.calls.control import CallControl
from supervisor.calls.events import CallerEntered, LegMissing
from supervisor.calls.names import CallNames
from supervisor.calls.state import Leg
from supervisor.calls.table import CallTable
from supervisor.phone.phone_calls import AllPhoneCalls

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
        self.phones: AllPhoneCalls
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
        self.phones.note(event)
        if isinstance(happened, CallerEntered):
            up = event.channel is not None and event.channel.state == "Up"
            self.phones.caller_entered(happened, up=up)
        elif happened is not None:
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
        seen = self.phones.resumption.seen()
        try:
            channels = await self.ari.list_channels()
            bridges = await self.ari.list_bridges()
            calls = self._table.calls
            found = reconcile(calls, channels, bridges, self._names, asked_ns)
            await self._settle(found, {each.id for each in channels if each.state == "Up"})
            await self.phones.resumption.settle(channels, bridges, seen)
        except AriError as error:
            # Without an answer the connection breaks too, and the next one starts anew.
            log.warning("not_reconciled", reason=str(error))

    async def _settle(self, found: Differences, up: set[str]) -> None:
        for event in found.events:
            if isinstance(event, CallerEntered):
                self.phones.caller_entered(event, up=event.channel_id in up)
                continue
            if isinstance(event, LegMissing) and self._is_aside(event):
                continue
            log.info("event_made_up_for", kind=type(event).__name__)
            self.control.happen(event)
        for channel_id in found.orphan_channels:
            log.warning("orphan_removed", channel=channel_id)
            await self.ari.delete_channel(channel_id)
        for bridge_id in found.orphan_bridges:
            log.warning("orphan_removed", bridge=bridge_id)
            await self.ari.delete_bridge(bridge_id)

    def _is_aside(self, missing: LegMissing) -> bool:
        """Whether a caller isn't in the stream's bridge because somebody wants it so."""
        return missing.leg is Leg.CALLER and self.phones.is_away(missing.call_sid)
