"""The stand-in's events WebSocket, as ARI's `GET /events` (rest-api/api-docs/events.json).

Each application has one subscriber, the newest; the one before hears ApplicationReplaced and its
connection stays open, but silent, as in Asterisk 22. When a subscriber goes, its applications stay
known but don't listen, and what happens meanwhile is not told later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import msgspec
from aiohttp import WSMessage, WSMsgType, web

from loadtest.stand_in_calls import Json, iso_now
from loadtest.stand_in_faults import EventFault, FaultPlan

WRITE_TIMEOUT_S = 2.0  # ari.conf's websocket_write_timeout as deployed: slow readers are cut off
CLOSE_TIMEOUT_S = 0.2  # for a client's answer to our close

Frame = tuple[WSMsgType, bytes]


class Subscriber:
    """One event connection: a queue, and the task of its request that empties it."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self.queue: asyncio.Queue[Frame] = asyncio.Queue()
        self._socket = socket
        self._request = request

    def take(self, message: WSMessage) -> None:
        """Pings wait in line behind events; anything else from a client means nothing here."""
        if message.type is WSMsgType.PING:
            self.queue.put_nowait((WSMsgType.PONG, message.data))

    async def write(self, plan: FaultPlan) -> None:
        """Send what is queued until the connection ends or its reader is too slow."""
        with suppress(TimeoutError, ConnectionError):
            while True:
                kind, data = await self.queue.get()
                await plan.until_speaking()
                async with asyncio.timeout(WRITE_TIMEOUT_S):
                    await self._socket.send_frame(data, kind)
        self.cut()

    def cut(self) -> None:
        """Reset the connection, with no WebSocket close."""
        if self._request.transport is not None:
            self._request.transport.abort()


class Applications:
    """The applications that ever connected, and who listens for each. An EventSink."""

    def __init__(self, plan: FaultPlan, asterisk_id: str) -> None:
        self._subscribers: dict[str, Subscriber | None] = {}
        self._plan = plan
        self._asterisk_id = asterisk_id
        self._sockets: set[web.WebSocketResponse] = set()
        self._late: set[asyncio.TimerHandle] = set()
        self._held: list[tuple[str, bytes]] = []

    def listening(self, app: str) -> bool:
        return self._subscribers.get(app) is not None

    def state(self) -> dict[str, bool]:
        """Every application by name, and whether it is listening."""
        return {app: subscriber is not None for app, subscriber in self._subscribers.items()}

    def send(self, app: str, event: Json) -> None:
        """Queue an event, or do with it what the fault plan says."""
        data = msgspec.json.encode(event)
        fault = self._plan.take_event(str(event["type"]))
        if fault is None:
            self._queue(app, data)
        else:
            self._misbehave(fault, app, data)
            if fault.action == "reorder":
                return
        self._release_held()

    async def serve(self, request: web.Request, apps: list[str]) -> web.WebSocketResponse:
        """Run one event connection to its end."""
        socket = web.WebSocketResponse(autoping=False, timeout=CLOSE_TIMEOUT_S)
        subscriber = Subscriber(socket, request)
        for app in apps:
            self._subscribe(app, subscriber)
        try:
            await socket.prepare(request)
            self._sockets.add(socket)
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(subscriber.write(self._plan))
                async for message in socket:
                    subscriber.take(message)
                writer.cancel()
        finally:
            self._sockets.discard(socket)
            for app in apps:
                if self._subscribers[app] is subscriber:
                    self._subscribers[app] = None
        return socket

    def cut_all(self) -> None:
        """Reset every event connection."""
        for subscriber in self._subscribers.values():
            if subscriber is not None:
                subscriber.cut()

    async def close(self) -> None:
        """Say goodbye to every event connection: the stand-in ends."""
        for timer in self._late:
            timer.cancel()
        await asyncio.gather(*(socket.close(code=1001) for socket in self._sockets))

    def _subscribe(self, app: str, subscriber: Subscriber) -> None:
        if self.listening(app):
            head = {"type": "ApplicationReplaced", "timestamp": iso_now()}
            self.send(app, {**head, "application": app, "asterisk_id": self._asterisk_id})
        self._subscribers[app] = subscriber

    def _queue(self, app: str, data: bytes) -> None:
        subscriber = self._subscribers.get(app)
        if subscriber is not None:
            subscriber.queue.put_nowait((WSMsgType.TEXT, data))

    def _misbehave(self, fault: EventFault, app: str, data: bytes) -> None:
        delay_s = fault.delay_ms / 1000
        match fault.action:
            case "duplicate":
                self._queue(app, data)
                self._queue(app, data)
            case "delay":
                self._later(delay_s, partial(self._queue, app, data))
            case "reorder":
                self._held.append((app, data))
                self._later(delay_s, self._release_held)
            case "drop":
                pass

    def _release_held(self) -> None:
        for app, data in self._held:
            self._queue(app, data)
        self._held.clear()

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        def act() -> None:
            self._late.discard(timer)
            action()

        timer = asyncio.get_running_loop().call_later(delay_s, act)
        self._late.add(timer)
