"""The supervisor's link to Asterisk: ARI's events by WebSocket, and the REST calls.

`GET /ari/events?app=…` (rest-api/api-docs/events.json of Asterisk 22) makes us the one listener of
the Stasis app. While nobody listens, new callers fall through to the next line of the dialplan, so
the link comes back as soon as it can. Asterisk disconnects a listener that reads too slowly
(ari.conf's `websocket_write_timeout`): one task does nothing but read, another one hands over.
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final, Self

import aiohttp
import structlog
from aiohttp import WSMessage, WSMsgType

from supervisor.ari.calls import AriCalls
from supervisor.ari.connection import (
    BACK_OFF_LIMIT_S,
    CONNECTION_ERRORS,
    AriCounters,
    AriSettings,
    retry_delay_s,
    why_failed,
)
from supervisor.ari.events import REPLACED, AriDecodeError, AriEvent, AriRefused, decode_event
from supervisor.ari.rest import Request

__all__ = ["AriCounters", "AriLink", "AriSettings"]

LOG_AGAIN_S: Final = 30.0
CLOSE_S: Final = 0.5
"""How long the peer may take to answer our WebSocket close frame."""
TAKEN_OVER: Final = "a newer connection has taken over the app"
OVERTAKEN: Final = "an attempt of our own, given up before, took the app over"
STOOD_DOWN: Final = "stood down"

log = structlog.get_logger()


class AriLink(AriCalls):
    """Events and REST calls of one Stasis app. Create it in a running loop, run it, and close it.

    `on_event` gets every event, `on_state(connected, why)` every change of the connection or of the
    reason that there is none; both in the order in which it happened, from a task of the link. They
    must not block. Events that Asterisk had while the link was down never come: after each
    `on_state(True, …)` compare with `list_channels` and `list_bridges`.
    """

    def __init__(
        self,
        settings: AriSettings,
        on_event: Callable[[AriEvent], None],
        on_state: Callable[[bool, str], None],
    ) -> None:
        super().__init__(settings)
        self._on_event = on_event
        self._on_state = on_state
        self._state = (False, "")
        self._up_since = 0.0
        self._gave_up_one = False
        self._queue: asyncio.Queue[AriEvent | tuple[bool, str]] = asyncio.Queue()
        self._logged_at: dict[str, float] = {}
        self._stand_down = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stopped.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def connected(self) -> bool:
        """Whether events are coming in right now."""
        return self._state[0]

    @property
    def waiting_events(self) -> int:
        """How many events were read and not yet handed over."""
        return self._queue.qsize()

    async def run(self) -> None:
        """Keep the events coming, until `stand_down` or cancellation. Call it once at a time."""
        self._stopped.clear()
        try:
            async with asyncio.TaskGroup() as group:
                delivering = group.create_task(self._deliver())
                listening = group.create_task(self._stay_connected())
                await self._stand_down.wait()
                listening.cancel()
                await asyncio.wait([listening])
                await self._queue.join()
                delivering.cancel()
        finally:
            self._stopped.set()

    def stand_down(self) -> None:
        """Stop listening for good; REST calls stay possible. The answer to ApplicationReplaced.

        A link that was replaced and does not stand down takes the app back after 10 s.
        """
        self._stand_down.set()

    async def close(self) -> None:
        """Stop listening, wait for `run` to end, and close all connections."""
        self.stand_down()
        await self._stopped.wait()
        await super().close()

    async def _stay_connected(self) -> None:
        attempt = short_lived = 0
        while True:
            up_s, why = await self._connection()
            await self._queue.join()  # the owner may want to stand down on what came last
            if up_s > BACK_OFF_LIMIT_S:
                self._gave_up_one, short_lived, attempt = False, 0, 0
            elif up_s:  # back at once, but not again and again
                attempt = short_lived = short_lived + 1
            delay_s = retry_delay_s(attempt, random.random())
            await asyncio.sleep(BACK_OFF_LIMIT_S if why == TAKEN_OVER else delay_s)
            attempt += 1

    async def _connection(self) -> tuple[float, str]:
        """One connection, from opening to its end: how many seconds it was up, and why it ended."""
        try:
            ws = await self._open()
        except (*CONNECTION_ERRORS, AriRefused) as error:
            self._note_unreachable(why_failed(error))
            return 0.0, why_failed(error)
        self._note_connected()
        why = STOOD_DOWN
        try:
            why = await self._listen(ws)
        except CONNECTION_ERRORS as error:
            why = why_failed(error)
        finally:
            self._note_ended(why)
            await ws.close()
        return self._up_s(), why

    async def _open(self) -> aiohttp.ClientWebSocketResponse:
        """Ask for the events, once something harmless was answered.

        An Asterisk that hung acts on all that it finds when it goes on, and an upgrade that we gave
        up long ago then replaces the connection that we have got in the meantime (seen with
        SIGSTOP). So none is sent to an Asterisk that does not answer.
        """
        limit_s = self._settings.request_timeout_s
        async with asyncio.timeout(limit_s):
            await self._attempt(Request("ping", "GET", "/asterisk/ping"))
        try:
            async with asyncio.timeout(limit_s):
                return await self._session.ws_connect(
                    self._settings.root + "/events",
                    params={"app": self._settings.app, "subscribeAll": "false"},
                    autoping=False,  # a pong is a sign of life, which `_receive` waits for
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
                )
        except TimeoutError:
            self._gave_up_one = True
            raise

    async def _listen(self, ws: aiohttp.ClientWebSocketResponse) -> str:
        """Read until the connection ends or is another's; the reason."""
        while True:
            try:
                message = await self._receive(ws)
            except TimeoutError:
                return f"no answer to a ping within {self._settings.ping_reply_s:g} s"
            match message.type:
                case WSMsgType.TEXT | WSMsgType.BINARY:
                    if why := self._take(message.data):
                        return why
                case WSMsgType.PING:
                    await ws.pong(message.data)
                case WSMsgType.CLOSE:
                    return f"closed by Asterisk ({message.data})"
                case WSMsgType.CLOSING | WSMsgType.CLOSED | WSMsgType.ERROR:
                    return "connection lost"

    async def _receive(self, ws: aiohttp.ClientWebSocketResponse) -> WSMessage:
        """The next message. Asterisk sends no pings, so a silent connection is pinged by us."""
        try:
            return await ws.receive(self._settings.ping_idle_s)
        except TimeoutError:
            await ws.ping()
            return await ws.receive(self._settings.ping_reply_s)

    def _take(self, text: str | bytes) -> str:
        """Queue an event for the owner; why the connection is of no use any more, mostly ""."""
        try:
            event = decode_event(text)
        except AriDecodeError as error:
            self.counters.unreadable_events += 1
            self._log_sparingly("ari_event_unreadable", str(error))
            return ""
        self.counters.events += 1
        replaced = event.type == REPLACED and event.application == self._settings.app
        if replaced and self._gave_up_one and self._up_s() < BACK_OFF_LIMIT_S:
            return OVERTAKEN
        self._queue.put_nowait(event)
        return TAKEN_OVER if replaced else ""

    async def _deliver(self) -> None:
        """Hand over what was queued, one by one, with room for reading in between."""
        while True:
            item = await self._queue.get()
            try:
                if isinstance(item, AriEvent):
                    self._on_event(item)
                else:
                    self._on_state(*item)
            except Exception:
                self.counters.failed_callbacks += 1
                what = item.type if isinstance(item, AriEvent) else "state"
                log.exception("ari_callback_failed", what=what)
            finally:
                self._queue.task_done()
            await asyncio.sleep(0)

    def _up_s(self) -> float:
        return time.monotonic() - self._up_since

    def _note_connected(self) -> None:
        self.counters.connects += 1
        self._up_since = time.monotonic()
        self._logged_at.clear()
        self._report(True, "connected")
        log.info("ari_connected", base=self._settings.base, app=self._settings.app)

    def _note_ended(self, why: str) -> None:
        self._report(False, why)
        write = log.info if why == STOOD_DOWN else log.warning
        write("ari_connection_ended", base=self._settings.base, reason=why)

    def _note_unreachable(self, why: str) -> None:
        self.counters.failed_connects += 1
        self._report(False, why)
        self._log_sparingly("ari_unreachable", why)

    def _report(self, connected: bool, why: str) -> None:
        if (connected, why) != self._state:
            self._state = (connected, why)
            self._queue.put_nowait(self._state)

    def _log_sparingly(self, event: str, reason: str) -> None:
        """Log a reason when it is new, and then every LOG_AGAIN_S at most."""
        now = time.monotonic()
        if now - self._logged_at.get(reason, -LOG_AGAIN_S) >= LOG_AGAIN_S:
            self._logged_at[reason] = now
            log.warning(event, base=self._settings.base, reason=reason)
