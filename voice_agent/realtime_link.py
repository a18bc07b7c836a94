"""The connection to the Realtime API: opened, and opened again, for as long as a call lasts."""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import urlencode

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from voice_agent import realtime_messages
from voice_agent.realtime_messages import (
    AppendAudio,
    BadEventError,
    ClientEvent,
    ErrorEvent,
    ServerEvent,
    SessionSettings,
)

log = structlog.get_logger()

BACKOFF_S: Final = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Waits before the attempts to connect. When all failed in a row, the call is given up."""
GOOD_S: Final = 15.0
"""A session that lasted so long was no failure. Longer than `OPEN_TIMEOUT_S`."""
OPEN_TIMEOUT_S: Final = 10.0
PING_S: Final = 10.0
MAX_EVENT_BYTES: Final = 4 * 1024 * 1024
"""The API's audio deltas are far smaller; its `session.updated` grows with the tools."""
KEPT_FRAMES: Final = 250
"""5 s of the caller's audio wait for a connection; older audio is dropped."""
SESSION_OVER: Final = "session_expired"
"""The error code with which the API ends a session at its time limit (60 minutes)."""
_FORBIDDEN: Final = frozenset({401, 403, 404})
"""Answers to the handshake that another attempt won't change."""


class RealtimeError(Exception):
    """The Realtime API can't be used; the text says why."""


class RealtimeLink:
    """One call's sessions, one after the other. `send` never blocks; `run` does the work."""

    def __init__(self, url: str, api_key: str, settings: SessionSettings) -> None:
        self._url = f"{url}?{urlencode({'model': settings.model})}"
        self._api_key = api_key
        self._settings = settings
        self._audio: deque[AppendAudio] = deque(maxlen=KEPT_FRAMES)
        self._queue: deque[ClientEvent] = deque()
        self._filled = asyncio.Event()
        self._open = False

    def send(self, event: ClientEvent) -> None:
        """Send an event. Between two sessions audio waits, and other events are dropped: the
        next session is told the whole conversation anyway."""
        if self._open:
            self._queue.append(event)
            self._filled.set()
        elif isinstance(event, AppendAudio):
            self._audio.append(event)

    async def run(
        self,
        on_open: Callable[[], Iterable[ClientEvent]],
        on_event: Callable[[ServerEvent], None],
    ) -> None:
        """Keep a session open until cancelled. `on_open` gives what a new one is told first.

        Raises:
            RealtimeError: the API refuses us, or can't be reached.
        """
        failures = 0
        while True:
            await asyncio.sleep(BACKOFF_S[failures])
            began_s = time.monotonic()
            try:
                async with await self._connect() as websocket:
                    await self._serve(websocket, on_open, on_event)
            except InvalidStatus as refused:
                status = refused.response.status_code
                if status in _FORBIDDEN:
                    raise RealtimeError(f"the Realtime API answers {status}") from refused
                log.warning("realtime_refused", status=status)
            except (OSError, InvalidHandshake, TimeoutError) as error:
                log.warning("realtime_unreachable", error=str(error) or type(error).__name__)
            finally:
                self._open = False
                self._queue.clear()
            failures = 0 if time.monotonic() - began_s >= GOOD_S else failures + 1
            if failures == len(BACKOFF_S):
                raise RealtimeError(f"no session after {failures} attempts")

    async def _connect(self) -> ClientConnection:
        tls = ssl.create_default_context() if self._url.startswith("wss:") else None
        return await connect(
            self._url,
            additional_headers={"Authorization": f"Bearer {self._api_key}"},
            ssl=tls,
            compression=None,
            max_size=MAX_EVENT_BYTES,
            open_timeout=OPEN_TIMEOUT_S,
            ping_interval=PING_S,
            ping_timeout=PING_S,
            close_timeout=1,
        )

    async def _serve(
        self,
        websocket: ClientConnection,
        on_open: Callable[[], Iterable[ClientEvent]],
        on_event: Callable[[ServerEvent], None],
    ) -> None:
        """One session, from its set-up to its end."""
        self._queue.extend([realtime_messages.session(self._settings), *on_open(), *self._audio])
        self._audio.clear()
        self._open = True
        self._filled.set()
        try:
            async with asyncio.TaskGroup() as tasks:
                writing = tasks.create_task(self._write(websocket))
                await self._read(websocket, on_event)
                writing.cancel()
        except* ConnectionClosed:
            pass  # reading says so too, and logs it
        log.info("realtime_session_over", code=websocket.close_code)

    async def _write(self, websocket: ClientConnection) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._queue:
                await websocket.send(realtime_messages.encode(self._queue.popleft()))

    async def _read(
        self, websocket: ClientConnection, on_event: Callable[[ServerEvent], None]
    ) -> None:
        """Pass events on until the session is over."""
        async for data in websocket:
            try:
                event = realtime_messages.decode(data)
            except BadEventError as bad:
                log.warning("realtime_event_dropped", detail=str(bad))
                continue
            if event is None:
                continue
            if isinstance(event, ErrorEvent):
                log.warning("realtime_error", code=event.error.code, type=event.error.type)
                if event.error.code == SESSION_OVER:
                    return
            on_event(event)
