"""An ARI to test against, on a real socket: it misbehaves as the test wants."""

import asyncio
import base64
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Self

from aiohttp import WSMsgType, web

USER = "tests"
PASSWORD = "a-secret-of-the-tests"
APP = "voice-agent"
LOGIN = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


def says(status: int, body: str = "") -> Behaviour:
    """Answer with a status and a JSON text."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=body, content_type="application/json")

    return answer


async def resets(request: web.Request) -> web.StreamResponse:
    """Break the connection with a TCP reset, without an answer."""
    abort(request, reset=True)
    return web.Response()


async def hangs_up(request: web.Request) -> web.StreamResponse:
    """Close the connection without an answer, as Asterisk does at its session limit."""
    abort(request, reset=False)
    return web.Response()


async def breaks_off(request: web.Request) -> web.StreamResponse:
    """Close the connection in the middle of the answer."""
    response = web.StreamResponse(headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b'{"value":')
    abort(request, reset=False)
    return response


async def keeps_silent(request: web.Request) -> web.StreamResponse:
    """Never answer; ends when the client gives up or the server stops."""
    await asyncio.Event().wait()
    return web.Response()


def abort(request: web.Request, *, reset: bool) -> None:
    """Close a request's connection at once, with a FIN or with a reset."""
    transport = request.transport
    if transport is None:
        return
    if reset:
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for a condition; fail once the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        if condition():
            return
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.005)


class AriServer:
    """`script[request]` says how a request, as "GET /asterisk/info", is answered: the first
    behaviour of the list once, then the next, the last one for ever. Everything else is 204.

    `seen` has the requests (method, path, query) in order, `peers` the connections they came by,
    `listeners` the event WebSockets, oldest first, and `opened_at` when they came.
    """

    def __init__(self) -> None:
        self.script: dict[str, list[Behaviour]] = {"GET /asterisk/ping": [says(200, "{}")]}
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.peers: Counter[tuple[str, int]] = Counter()
        self.at_once = 0
        self.most_at_once = 0
        self.listeners: list[tuple[web.Request, web.WebSocketResponse]] = []
        self.opened_at: list[float] = []
        self.pings = 0
        self.pongs: list[bytes] = []
        self.answers_pings = True
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def base(self) -> str:
        """What goes into AriSettings."""
        return f"http://127.0.0.1:{self.port}"

    def count(self, method: str, path: str) -> int:
        """How often a request came."""
        return sum(1 for seen in self.seen if seen[:2] == (method, path))

    async def start(self) -> None:
        """Listen; after a stop on the same port again."""
        app = web.Application()
        app.router.add_route("*", "/ari/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening, and close what is open."""
        for request, _ in self.listeners:
            abort(request, reset=False)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def send(self, text: str) -> None:
        """Send a text message to the newest listener."""
        await self.listeners[-1][1].send_str(text)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._behave(request)
        finally:
            self.at_once -= 1

    async def _behave(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0].removeprefix("/ari")
        self.seen.append((request.method, path, dict(request.query)))
        if request.transport is not None:
            self.peers[request.transport.get_extra_info("peername")] += 1
        if request.headers.get("Authorization") != LOGIN:
            return await says(401, '{"message":"Authentication required"}')(request)
        behaviours = self.script.get(f"{request.method} {path}", [])
        if behaviours:
            behave = behaviours.pop(0) if len(behaviours) > 1 else behaviours[0]
            return await behave(request)
        if path == "/events":
            return await self.listen(request)
        return web.Response(status=204)

    async def listen(self, request: web.Request) -> web.StreamResponse:
        """The events' WebSocket; it answers pings only if `answers_pings`."""
        ws = web.WebSocketResponse(autoping=False)
        await ws.prepare(request)
        self.listeners.append((request, ws))
        self.opened_at.append(time.monotonic())
        async for message in ws:
            if message.type == WSMsgType.PING:
                self.pings += 1
                if self.answers_pings:
                    await ws.pong(message.data)
            elif message.type == WSMsgType.PONG:
                self.pongs.append(message.data)
        return ws
