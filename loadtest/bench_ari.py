"""Asterisk's ARI, as far as the supervisor needs it to have N calls, for the benchmark.

Callers are made by `call`; the media of a call is the UDP port of a load generator instead of a
bridge and two legs. `loadtest/stand_in.py` is the full stand-in: it passes RTP on itself, in
Python, which would be the first thing to reach its limit here.
"""

from __future__ import annotations

import itertools
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import msgspec
from aiohttp import web

Json: TypeAlias = dict[str, Any]

APP: Final = "bench"


class BenchAri:
    """An ARI server on a free port of 127.0.0.1, from `async with` to its end.

    Media channel i, in the order of their creation, has its RTP at 127.0.0.1:`first_port` + i.
    Any user and password will do. Paths, parameters and answers are those of Asterisk 22's
    rest-api/api-docs; an id that is not there is answered with 404.
    """

    def __init__(self, first_port: int) -> None:
        self.base = ""
        self._ports = itertools.count(first_port)
        self._names = itertools.count(1)
        self._channels: dict[str, Json] = {}
        self._bridges: dict[str, list[str]] = {}
        self._listeners: set[web.WebSocketResponse] = set()
        app = web.Application()
        app.add_routes(
            [
                web.get("/ari/asterisk/ping", self._ping),
                web.get("/ari/events", self._listen),
                web.get("/ari/channels", self._list_channels),
                web.get("/ari/channels/{channel}", self._get_channel),
                web.post("/ari/channels/externalMedia", self._create_media),
                web.post("/ari/channels/{channel}/continue", self._delete_channel),
                web.delete("/ari/channels/{channel}", self._delete_channel),
                web.get("/ari/bridges", self._list_bridges),
                web.post("/ari/bridges/{bridge}", self._create_bridge),
                web.post("/ari/bridges/{bridge}/addChannel", self._add_channel),
                web.delete("/ari/bridges/{bridge}", self._delete_bridge),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for listener in tuple(self._listeners):
            await listener.close()
        await self._runner.cleanup()

    async def call(self) -> None:
        """A caller enters the application."""
        number = next(self._names)
        await self._enter(f"caller-{number}", f"PJSIP/caller-{number:08x}")

    async def _enter(self, channel_id: str, name: str) -> None:
        channel = {
            "id": channel_id,
            "name": name,
            "state": "Up",
            "caller": {"name": "", "number": ""},
            "connected": {"name": "", "number": ""},
            "dialplan": {"exten": "100", "app_name": "Stasis", "app_data": APP},
        }
        self._channels[channel_id] = channel
        event = {"type": "StasisStart", "application": APP, "args": [], "channel": channel}
        for listener in tuple(self._listeners):
            await listener.send_str(msgspec.json.encode(event).decode())

    async def _ping(self, _: web.Request) -> web.Response:
        return _answer({"ping": "pong"})

    async def _listen(self, request: web.Request) -> web.WebSocketResponse:
        listener = web.WebSocketResponse()
        await listener.prepare(request)
        self._listeners.add(listener)
        try:
            async for _ in listener:
                pass  # clients only ping, which aiohttp answers
        finally:
            self._listeners.discard(listener)
        return listener

    async def _list_channels(self, _: web.Request) -> web.Response:
        return _answer(list(self._channels.values()))

    async def _get_channel(self, request: web.Request) -> web.Response:
        channel = self._channels.get(request.match_info["channel"])
        return _absent() if channel is None else _answer(channel)

    async def _create_media(self, request: web.Request) -> web.Response:
        """The channel enters the application at once: Asterisk too may send that event first."""
        channel_id = request.query["channelId"]
        await self._enter(channel_id, f"UnicastRTP/{request.query['external_host']}")
        address = {
            "UNICASTRTP_LOCAL_ADDRESS": "127.0.0.1",
            "UNICASTRTP_LOCAL_PORT": str(next(self._ports)),
        }
        return _answer({**self._channels[channel_id], "channelvars": address})

    async def _delete_channel(self, request: web.Request) -> web.Response:
        gone = self._channels.pop(request.match_info["channel"], None)
        return _absent() if gone is None else web.Response(status=204)

    async def _list_bridges(self, _: web.Request) -> web.Response:
        return _answer([_bridge(*each) for each in self._bridges.items()])

    async def _create_bridge(self, request: web.Request) -> web.Response:
        bridge_id = request.match_info["bridge"]
        self._bridges[bridge_id] = []
        return _answer(_bridge(bridge_id, []))

    async def _add_channel(self, request: web.Request) -> web.Response:
        channels = self._bridges.get(request.match_info["bridge"])
        if channels is None:
            return _absent()
        channels += request.query["channel"].split(",")
        return web.Response(status=204)

    async def _delete_bridge(self, request: web.Request) -> web.Response:
        gone = self._bridges.pop(request.match_info["bridge"], None)
        return _absent() if gone is None else web.Response(status=204)


def _bridge(bridge_id: str, channels: list[str]) -> Json:
    return {"id": bridge_id, "bridge_type": "mixing", "channels": channels}


def _answer(content: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(content), content_type="application/json")


def _absent() -> web.Response:
    body = msgspec.json.encode({"message": "Resource not found"})
    return web.Response(status=404, body=body, content_type="application/json")
