"""A web server as an operator has one: it gives out TwiML and sounds, and takes callbacks.

Its voice server, at /stream, says what it hears.
"""

import base64
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from supervisor.phone.call_forms import sign

TOKEN = "0123456789abcdef"


class Asked:
    """One request: its path, its form, whether its signature is right, and its `traceparent`."""

    def __init__(self, path: str, form: dict[str, str], signed: bool, traceparent: str) -> None:
        self.path = path
        self.form = form
        self.signed = signed
        self.traceparent = traceparent


class WebSite:
    """`pages` by path are what is answered; `asked` is what came; `failing` paths get 500 so often.

    `says` is the frame (µ-law, 20 ms) that the voice server says, None for what it hears.
    `starts` are the start messages of streams, `heard` the last second of them (µ-law).
    """

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.asked: list[Asked] = []
        self.failing: dict[str, int] = {}
        self.starts: list[dict[str, object]] = []
        self.says: bytes | None = None
        self.sockets: list[web.WebSocketResponse] = []
        self.heard: deque[bytes] = deque(maxlen=50)
        self.base = ""

    def of(self, path: str) -> list[dict[str, str]]:
        """The forms that came to a path, in order."""
        return [asked.form for asked in self.asked if asked.path == path]

    async def answer(self, request: web.Request) -> web.Response:
        """Give out the page, or nothing."""
        form = {name: str(value) for name, value in (await request.post()).items()}
        signature = request.headers.get("X-Twilio-Signature", "")
        signed = signature == sign(TOKEN, f"{self.base}{request.rel_url}", form)
        traceparent = request.headers.get("traceparent", "")
        self.asked.append(Asked(request.path, form, signed, traceparent))
        if self.failing.get(request.path, 0) > 0:
            self.failing[request.path] -= 1
            return web.Response(status=500)
        return web.Response(body=self.pages.get(request.path, b""))

    async def stream(self, request: web.Request) -> web.WebSocketResponse:
        """Speak Twilio's protocol, and echo."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        stream_sid = ""
        async for message in socket:
            content = json.loads(message.data)
            if content["event"] == "start":
                self.starts.append(content["start"])
                stream_sid = content["streamSid"]
            if content["event"] == "media":
                payload = content["media"]["payload"]
                self.heard.append(base64.b64decode(payload))
                if self.says is not None:
                    payload = base64.b64encode(self.says).decode()
                said = {"event": "media", "streamSid": stream_sid, "media": {"payload": payload}}
                await socket.send_json(said)
        return socket


@asynccontextmanager
async def web_site() -> AsyncIterator[WebSite]:
    """A web server on a free port of this machine."""
    site = WebSite()
    app = web.Application()
    app.router.add_get("/stream", site.stream)
    app.router.add_route("*", "/{path:.*}", site.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        server = web.TCPSite(runner, "127.0.0.1", 0)
        await server.start()
        host, port = runner.addresses[0][:2]
        site.base = f"http://{host}:{port}"
        yield site
    finally:
        await runner.cleanup()
