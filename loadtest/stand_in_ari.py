"""The stand-in's HTTP server: ARI behind its password, and the control resources of tests.

GET  /stand-in/state      what is up: channels, bridges, leased RTP ports, packet counters
GET  /stand-in/faults     the faults that are left
PUT  /stand-in/faults     misbehave from now on (`stand_in_faults.Faults` as JSON)
POST /stand-in/cut-events reset all event connections
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections import Counter
from collections.abc import Callable

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler
from msgspec import Struct

from loadtest.stand_in_events import Applications
from loadtest.stand_in_faults import FaultPlan, Faults, RestFault
from loadtest.stand_in_media import AriProblem
from loadtest.stand_in_rest import PARAMETERS, Resources, answer, read_parameters
from loadtest.stand_in_rtp import Address

KEEP_ALIVE_S = 15  # http.conf's session_keep_alive
SHUTDOWN_S = 0.2
REALM = 'Basic realm="Asterisk REST Interface"'


class Account(Struct, frozen=True):
    """Who may use ARI."""

    user: str
    password: str


class AriServer:
    """Serves ARI and the control resources; `open` binds it, `close` ends all requests."""

    def __init__(
        self,
        account: Account,
        resources: Resources,
        applications: Applications,
        plan: FaultPlan,
        state: Callable[[], Struct],
    ) -> None:
        self.requests: Counter[str] = Counter()
        self._account = account
        self._applications = applications
        self._plan = plan
        self._state = state
        app = web.Application(middlewares=[self._misbehave, self._admit])
        app.add_routes(resources.routes())
        app.add_routes(
            [
                web.get("/ari/events", self._events),
                web.get("/stand-in/state", self._get_state),
                web.get("/stand-in/faults", self._get_faults),
                web.put("/stand-in/faults", self._put_faults),
                web.post("/stand-in/cut-events", self._cut_events),
            ]
        )
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,  # a request left hanging ends with its connection
            keepalive_timeout=KEEP_ALIVE_S,
            shutdown_timeout=SHUTDOWN_S,
        )

    async def open(self, host: str, port: int) -> Address:
        """Listen; the address that was bound, for port 0."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        bound: Address = self._runner.addresses[0]
        return bound

    async def close(self) -> None:
        self._plan.set(Faults())
        await self._applications.close()
        await self._runner.cleanup()

    @web.middleware
    async def _misbehave(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Do to ARI requests what the fault plan says."""
        if not _is_ari(request):
            return await handler(request)
        self.requests[f"{request.method} {_route(request)}"] += 1
        if self._plan.faults.silent:
            return await self._hang(request)
        fault = self._plan.take_rest(request.method, request.path)
        if fault is not None and not fault.done:
            return await self._fail(fault, request)
        response = await handler(request)
        if self._plan.faults.answer_delay_ms:
            await asyncio.sleep(self._plan.faults.answer_delay_ms / 1000)
        return response if fault is None else await self._fail(fault, request)

    @web.middleware
    async def _admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Ask for the password, read the parameters, and word errors as Asterisk does."""
        if not _is_ari(request):
            return await handler(request)
        if not self._allowed(request):
            refusal = answer({"message": "Authentication required"}, 401)
            refusal.headers["WWW-Authenticate"] = REALM
            return refusal
        try:
            request[PARAMETERS] = await read_parameters(request)
            return await handler(request)
        except AriProblem as problem:
            return answer({"message": str(problem)}, problem.status)
        except web.HTTPNotFound:
            return answer({"message": "Resource not found"}, 404)
        except web.HTTPMethodNotAllowed:
            return answer({"message": "Invalid method"}, 405)

    def _allowed(self, request: web.Request) -> bool:
        """Basic authentication, or `api_key=user:password` in the query."""
        expected = f"{self._account.user}:{self._account.password}"
        if "api_key" in request.query:
            return request.query["api_key"] == expected
        kind, _, encoded = request.headers.get("Authorization", "").partition(" ")
        return kind.lower() == "basic" and encoded.strip() == b64encode(expected.encode()).decode()

    async def _fail(self, fault: RestFault, request: web.Request) -> web.StreamResponse:
        match fault.action:
            case "status":
                return answer({"message": "Asked to fail"}, fault.status)
            case "hang":
                return await self._hang(request)
            case "drop":
                return _drop(request)

    async def _hang(self, request: web.Request) -> web.StreamResponse:
        """Never answer: the connection is closed when the client or the test has had enough."""
        await self._plan.until_replaced()
        return _drop(request)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if not web.WebSocketResponse().can_prepare(request):
            return web.Response(status=426, text="Upgrade Required")
        apps = request.query.get("app", "")
        if not apps:
            raise AriProblem(400, "Missing parameter app")
        return await self._applications.serve(request, apps.split(","))

    async def _get_state(self, request: web.Request) -> web.Response:
        return answer(self._state())

    async def _get_faults(self, request: web.Request) -> web.Response:
        return answer(self._plan.faults)

    async def _put_faults(self, request: web.Request) -> web.Response:
        try:
            faults = msgspec.json.decode(await request.read(), type=Faults)
        except msgspec.MsgspecError as error:
            return answer({"message": f"these are no faults: {error}"}, 400)
        self._plan.set(faults)
        return answer(faults)

    async def _cut_events(self, request: web.Request) -> web.Response:
        self._applications.cut_all()
        return web.Response(status=204)


def _is_ari(request: web.Request) -> bool:
    return request.path == "/ari" or request.path.startswith("/ari/")


def _route(request: web.Request) -> str:
    """The path with names in place of ids, so that requests can be counted."""
    resource = request.match_info.route.resource
    return request.path if resource is None else resource.canonical


def _drop(request: web.Request) -> web.StreamResponse:
    """Close the connection without an answer; what is returned can't be sent any more."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()
