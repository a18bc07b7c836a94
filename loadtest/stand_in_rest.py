"""The stand-in's ARI resources: /asterisk, /channels and /bridges.

Paths, parameters, codes and messages follow Asterisk 22's rest-api/api-docs and res/ari. Answers
come at once: the queue that Asterisk keeps for each channel's commands isn't modelled.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web
from msgspec import Struct

from loadtest.stand_in_calls import (
    NORMAL_CLEARING,
    SOFT_HANGUP_CAUSE,
    Bridge,
    Channel,
    Exchange,
    iso_now,
)
from loadtest.stand_in_media import AriProblem, ExternalMedia

VERSION = "22.10.1"
# The `reason` of DELETE /channels/{channelId}, as a cause.
CAUSES = {
    "normal": NORMAL_CLEARING,
    "busy": 17,
    "congestion": 34,
    "no_answer": 19,
    "timeout": 18,
    "rejected": 21,
    "unallocated": 1,
    "normal_unspecified": 31,
    "number_incomplete": 28,
    "codec_mismatch": 58,
    "interworking": 127,
    "failure": 38,
    "answered_elsewhere": 26,
}

Handler = Callable[[web.Request], Awaitable[web.Response]]


class Parameters(Struct, frozen=True):
    """A request's parameters, and the `variables` of its JSON body."""

    given: dict[str, str]
    variables: dict[str, str]


PARAMETERS = web.RequestKey("parameters", Parameters)


async def read_parameters(request: web.Request) -> Parameters:
    """From the query and from a JSON body, which wins. AriProblem if that is malformed."""
    given = dict(request.query)
    if not request.can_read_body or request.content_type != "application/json":
        return Parameters(given, {})
    try:
        body = msgspec.json.decode(await request.read(), type=dict[str, object])
        variables = msgspec.convert(body.pop("variables", {}), dict[str, str], strict=False)
    except msgspec.MsgspecError as error:
        raise AriProblem(400, f"Invalid JSON body: {error}") from error
    return Parameters(given | {name: str(value) for name, value in body.items()}, variables)


def answer(content: object, status: int = 200) -> web.Response:
    """A JSON answer, labelled as Asterisk does, without a charset."""
    body = msgspec.json.encode(content)
    return web.Response(body=body, status=status, content_type="application/json")


class Resources:
    """The handlers. They raise AriProblem for what Asterisk refuses."""

    def __init__(self, exchange: Exchange, media: ExternalMedia, asterisk_id: str) -> None:
        self._exchange = exchange
        self._media = media
        self._asterisk_id = asterisk_id
        self._started_at = iso_now()

    def routes(self) -> list[web.RouteDef]:
        """externalMedia stands before the paths in which it could be taken for an id."""
        table: tuple[tuple[str, str, Handler], ...] = (
            ("GET", "/asterisk/info", self.info),
            ("GET", "/asterisk/ping", self.ping),
            ("GET", "/channels", self.list_channels),
            ("POST", "/channels/externalMedia", self.create_external_media),
            ("GET", "/channels/{channel}", self.get_channel),
            ("DELETE", "/channels/{channel}", self.hang_up),
            ("POST", "/channels/{channel}/answer", self.answer_call),
            ("POST", "/channels/{channel}/continue", self.continue_in_dialplan),
            ("POST", "/channels/{channel}/dtmf", self.send_dtmf),
            ("GET", "/channels/{channel}/variable", self.get_variable),
            ("POST", "/channels/{channel}/variable", self.set_variable),
            ("GET", "/bridges", self.list_bridges),
            ("POST", "/bridges", self.create_bridge),
            ("GET", "/bridges/{bridge}", self.get_bridge),
            ("POST", "/bridges/{bridge}", self.create_bridge),
            ("DELETE", "/bridges/{bridge}", self.delete_bridge),
            ("POST", "/bridges/{bridge}/addChannel", self.add_to_bridge),
            ("POST", "/bridges/{bridge}/removeChannel", self.remove_from_bridge),
        )
        return [web.route(method, f"/ari{path}", handler) for method, path, handler in table]

    async def info(self, request: web.Request) -> web.Response:
        build = {"os": "Linux", "kernel": "", "machine": "", "options": "", "date": "", "user": ""}
        system = {"version": VERSION, "entity_id": self._asterisk_id}
        config = {"name": "", "default_language": "en", "setid": {"user": "", "group": ""}}
        status = {"startup_time": self._started_at, "last_reload_time": self._started_at}
        return answer({"build": build, "system": system, "config": config, "status": status})

    async def ping(self, request: web.Request) -> web.Response:
        about = {"timestamp": iso_now(), "asterisk_id": self._asterisk_id}
        return answer({"ping": "pong"} | about)

    async def list_channels(self, request: web.Request) -> web.Response:
        return answer([channel.to_json() for channel in self._exchange.channels.values()])

    async def get_channel(self, request: web.Request) -> web.Response:
        return answer(self._channel(request).to_json())

    async def create_external_media(self, request: web.Request) -> web.Response:
        parameters = request[PARAMETERS]
        return answer(await self._media.create(parameters.given, parameters.variables))

    async def hang_up(self, request: web.Request) -> web.Response:
        channel = self._channel(request)
        given = request[PARAMETERS].given
        cause = _cause(given)
        asked = {"cause": SOFT_HANGUP_CAUSE, "soft": True}
        self._exchange.hang_up(channel, cause, asked)
        return web.Response(status=204)

    async def answer_call(self, request: web.Request) -> web.Response:
        """The dialplan has answered every channel that is in the application."""
        self._channel_in_app(request)
        return web.Response(status=204)

    async def continue_in_dialplan(self, request: web.Request) -> web.Response:
        """Whatever place is asked for: the stand-in's dialplan has only one."""
        self._exchange.give_back(self._channel_in_app(request))
        return web.Response(status=204)

    async def send_dtmf(self, request: web.Request) -> web.Response:
        channel = self._channel_in_app(request)
        given = request[PARAMETERS].given
        if not given.get("dtmf"):
            raise AriProblem(400, "DTMF is required")
        channel.line.leg.send_digits(given["dtmf"])
        return web.Response(status=204)

    async def get_variable(self, request: web.Request) -> web.Response:
        """Variables only; no dialplan functions such as CHANNEL(...)."""
        channel = self._channel(request)
        value = channel.variables.get(_variable(request))
        if value is None:
            raise AriProblem(404, "Provided variable was not found")
        return answer({"value": value})

    async def set_variable(self, request: web.Request) -> web.Response:
        channel = self._channel_in_app(request)
        name = _variable(request)
        given = request[PARAMETERS].given
        self._exchange.set_variable(channel, name, given.get("value", ""))
        return web.Response(status=204)

    async def list_bridges(self, request: web.Request) -> web.Response:
        return answer([bridge.to_json() for bridge in self._exchange.bridges.values()])

    async def get_bridge(self, request: web.Request) -> web.Response:
        return answer(self._bridge(request).to_json())

    async def create_bridge(self, request: web.Request) -> web.Response:
        given = request[PARAMETERS].given
        bridge_id = request.match_info.get("bridge") or given.get("bridgeId") or str(uuid.uuid4())
        if bridge_id in self._exchange.bridges:
            raise AriProblem(409, f"Bridge with id '{bridge_id}' already exists")
        kind = "holding" if "holding" in given.get("type", "").split(",") else "mixing"
        bridge = Bridge(bridge_id, given.get("name", ""), kind)
        self._exchange.add_bridge(bridge)
        return answer(bridge.to_json())

    async def delete_bridge(self, request: web.Request) -> web.Response:
        self._exchange.destroy_bridge(self._bridge(request))
        return web.Response(status=204)

    async def add_to_bridge(self, request: web.Request) -> web.Response:
        bridge = self._bridge(request)
        for channel in self._named_channels(request):
            self._exchange.enter_bridge(bridge, channel)
        return web.Response(status=204)

    async def remove_from_bridge(self, request: web.Request) -> web.Response:
        bridge = self._bridge(request)
        channels = self._named_channels(request)
        if any(channel.bridge is not bridge for channel in channels):
            raise AriProblem(422, "Channel not in this bridge")
        for channel in channels:
            self._exchange.leave_bridge(channel)
        return web.Response(status=204)

    def _channel(self, request: web.Request) -> Channel:
        channel = self._exchange.channels.get(request.match_info["channel"])
        if channel is None:
            raise AriProblem(404, "Channel not found")
        return channel

    def _channel_in_app(self, request: web.Request) -> Channel:
        channel = self._channel(request)
        if not channel.in_app:
            raise AriProblem(409, "Channel not in Stasis application")
        return channel

    def _bridge(self, request: web.Request) -> Bridge:
        bridge = self._exchange.bridges.get(request.match_info["bridge"])
        if bridge is None:
            raise AriProblem(404, "Bridge not found")
        return bridge

    def _named_channels(self, request: web.Request) -> list[Channel]:
        """The channels of a bridge request: all of them must do before one is moved."""
        given = request[PARAMETERS].given
        if not given.get("channel"):
            raise AriProblem(400, "Missing parameter channel")
        channels = [self._exchange.channels.get(name) for name in given["channel"].split(",")]
        found = [channel for channel in channels if channel is not None]
        if len(found) < len(channels):
            raise AriProblem(400, "Channel not found")
        if not all(channel.in_app for channel in found):
            raise AriProblem(422, "Channel not in Stasis application")
        return found


def _variable(request: web.Request) -> str:
    name = request[PARAMETERS].given.get("variable")
    if not name:
        raise AriProblem(400, "Variable name is required")
    return name


def _cause(given: dict[str, str]) -> int:
    code, reason = given.get("reason_code"), given.get("reason")
    if code and reason:
        raise AriProblem(400, "The reason and reason_code can't both be specified")
    if code:
        if not code.isdecimal():
            raise AriProblem(400, "Invalid reason for hangup reason code provided")
        return int(code)
    if reason and reason not in CAUSES:
        raise AriProblem(400, "Invalid reason for hangup reason provided")
    return CAUSES[reason or "normal"]
