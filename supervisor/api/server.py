"""HTTP for people, monitoring and bots: `/health`, `/metrics`, calls, workers, drain, the console.

All but `/health`, `/metrics` and the console's page, which holds no data, needs credentials, and
is told to the audit log, refused or not.
"""

import logging
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import msgspec
import structlog
from aiohttp import web
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from shim.environment import ConfigError
from supervisor.api.access import Credentials, Role
from supervisor.api.audit_chain import Deed
from supervisor.api.audit_log import AuditLog
from supervisor.api.doorkeeper import Doorkeeper, NotAuthenticated, TooOften
from supervisor.console.routes import ConsoleRoutes, Viewer
from supervisor.phone.phone_call import CallRejected, PhoneCalls
from supervisor.rest import errors as rest_errors
from supervisor.rest.errors import Code
from supervisor.rest.routes import VISIT, CallRoutes, Duty, Handler, Visit, json_answer
from supervisor.workers.pool import PoolError

log = structlog.get_logger()

END_S: Final = 2.0
"""Requests that are being answered at the end have so long."""
MAX_BODY_BYTES: Final = 64 * 1024
HEALTHY: Final = ("ok", "draining")
UNKNOWN: Final = Duty("unknown", Role.READ)
FOREIGN: Final = ("cross-site", "same-site")
"""What a browser says in Sec-Fetch-Site of a request that another site's page has made."""
CHALLENGE: Final = 'Basic realm="open-telephony-stack", charset="UTF-8"'


class Answers(Struct, frozen=True):
    """Where the answers come from: `/health`, `/metrics`, who replaces a worker, who drains (or
    goes back to taking calls; raises CallRejected), the calls, the console.

    Without `calls` what is about calls gets 503; without `console` there is none.
    """

    health: Callable[[], dict[str, Any]]
    registry: CollectorRegistry
    restart_worker: Callable[[int], Awaitable[None]]
    drain: Callable[[bool], None]
    calls: PhoneCalls | None = None
    console: ConsoleRoutes | None = None


class HttpApi:
    """Serves until it is closed; closes `door` and `audit` as well. `audit` None: nothing is told.

    `account_sid` is the only account that there is.
    """

    def __init__(
        self, answers: Answers, door: Doorkeeper, audit: AuditLog | None, account_sid: str
    ) -> None:
        self._answers = answers
        self._door = door
        self._audit = audit
        self._open: frozenset[Handler] = frozenset({self._get_health, self._get_metrics})
        self._duties: dict[Handler, Duty] = {}
        app = web.Application(middlewares=[self._guard()], client_max_size=MAX_BODY_BYTES)
        app.router.add_get("/health", self._get_health)
        app.router.add_get("/metrics", self._get_metrics)
        self._calls = CallRoutes(answers.calls, account_sid, self._must_record)
        if (console := answers.console) is not None:
            self._open |= {console.get_file}
            app.router.add_get("/", console.get_file)
            app.router.add_get(r"/console/{file:[\w-]+(\.[\w-]+)+}", console.get_file)
        for method, path, handler, duty in [*self._calls.routes(), *self._own_routes()]:
            app.router.add_route(method, path, handler)
            self._duties[handler] = duty
        self._runner = web.AppRunner(
            app,
            access_log=None,
            auto_decompress=False,
            logger=_silent_logger(),
            shutdown_timeout=END_S,
        )

    def _own_routes(self) -> list[tuple[str, str, Handler, Duty]]:
        """Method, path, handler and duty of what is not about calls."""
        restart, admin = r"/workers/{worker:\d{1,4}}/restart", Role.ADMIN
        routes: list[tuple[str, str, Handler, Duty]] = [
            ("POST", restart, self._restart_worker, Duty("worker.restart", admin)),
            ("POST", "/drain", self._drain, Duty("node.drain", admin)),
            ("DELETE", "/drain", self._undrain, Duty("node.undrain", admin)),
        ]
        if self._answers.console is not None:
            watch = Duty("console.watch", Role.READ)
            routes.append(("GET", "/console/live", self._watch, watch))
        return routes

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen; returns the port, which 0 leaves to the system.

        Raises:
            ConfigError: the port is in use, or the address is not this machine's.
        """
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port, ssl_context=tls).start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(
                f"HTTP_HOST is {host!r} and HTTP_PORT is {port}: {error.strerror}; "
                "allowed is an address of this machine and a port that no other program has"
            ) from error
        return int(self._runner.addresses[0][1])

    def renew(self, credentials: Credentials) -> None:
        """Take other tokens, and another account, from now on."""
        self._door.renew(credentials)
        self._calls.account_sid = credentials.account_sid

    async def close(self) -> None:
        """Let viewers go, stop to listen, and write the last lines of the audit log."""
        if self._answers.console is not None:
            self._answers.console.close()
        await self._runner.cleanup()
        self._door.close()
        if self._audit is not None:
            self._audit.close()

    def _guard(self) -> Any:
        """What every request goes through: credentials, role, errors as JSON, the audit log."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            known = request.match_info.handler
            duty = self._duties.get(known, UNKNOWN)
            visit = request[VISIT] = Visit(duty.action, request.match_info.get("call", ""))
            error: CallRejected | None = None
            try:
                if known not in self._open:
                    await self._admit(request, duty)
                response = await handler(request)
            except Exception as raised:  # noqa: BLE001  # all of it becomes an answer, and is logged
                error = _rejection(raised, request)
                response = _refusal(error)
            if known not in self._open and not visit.told:
                self._record(visit, request, error)
            response.headers.setdefault("Cache-Control", "no-store")
            return response

        return guard

    async def _admit(self, request: web.Request, duty: Duty) -> None:
        """Raises CallRejected unless the request's sender may do this.

        A browser remembers Basic credentials and would send them with another site's request.
        """
        if request.headers.get("Sec-Fetch-Site") in FOREIGN:
            raise CallRejected(Code.FORBIDDEN, 403, "a page of another site has no business here")
        authorization = request.headers.get("Authorization", "")
        actor = await self._door.admit(authorization, request.remote or "")
        request[VISIT].actor = actor
        if actor.role < duty.role:
            needed = duty.role.name.lower()
            what = f"these credentials may {actor.role.name.lower()}; needed is the role {needed}"
            raise CallRejected(Code.FORBIDDEN, 403, what)

    def _must_record(self) -> None:
        """What changes something is not done unrecorded, but for the end of a call."""
        if self._audit is not None and self._audit.problem:
            what = f"the audit log can't be written: {self._audit.problem}"
            raise CallRejected(Code.UNAVAILABLE, 503, what)

    def _record(self, visit: Visit, request: web.Request, error: CallRejected | None) -> None:
        """Of refusals for frequency only the first of a row is told, lest they fill the disk."""
        if self._audit is None or (isinstance(error, TooOften) and not error.first):
            return
        outcome = "done"
        if error is not None:
            kind = "denied" if error.status in (401, 403, 429) else "refused"
            outcome = f"{kind}:{error.code}"
        name = visit.actor.name if visit.actor else "unknown"
        self._audit.record(Deed(visit.action, outcome, name, request.remote or "", visit.call))

    async def _get_health(self, request: web.Request) -> web.StreamResponse:
        """The whole picture is for those with credentials; the status is for everybody."""
        health = self._answers.health()
        status = 200 if health["status"] in HEALTHY else 503
        if "Authorization" not in request.headers:
            return json_answer({"status": health["status"]}, status)
        await self._admit(request, UNKNOWN)
        if self._audit is not None:
            health["audit"] = msgspec.structs.asdict(self._audit.health())
        return json_answer(health, status)

    async def _get_metrics(self, _: web.Request) -> web.StreamResponse:
        body = generate_latest(self._answers.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _restart_worker(self, request: web.Request) -> web.StreamResponse:
        self._must_record()
        worker = int(request.match_info["worker"])
        log.info("worker_restart_requested", worker=worker)
        try:
            await self._answers.restart_worker(worker)
        except PoolError as error:
            raise CallRejected(409, 409, str(error)) from error
        return json_answer({"worker": worker, "restarted": True})

    async def _drain(self, _: web.Request) -> web.StreamResponse:
        self._must_record()
        self._answers.drain(True)
        return json_answer({"draining": True})

    async def _undrain(self, _: web.Request) -> web.StreamResponse:
        self._must_record()
        self._answers.drain(False)
        return json_answer({"draining": False})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        """The console's pictures; told to the audit log when it begins, as it may take hours."""
        console, visit = self._answers.console, request[VISIT]
        assert console is not None  # or there were no such route
        assert visit.actor is not None  # or nobody would have been let in
        console.check_room()
        self._record(visit, request, None)
        visit.told = True
        header, address = request.headers["Authorization"], request.remote or ""
        again = partial(self._door.admit, header, address)
        viewer = Viewer(visit.actor, self._calls.account_sid, again)
        return await console.stream(request, viewer)


def _silent_logger() -> logging.Logger:
    """What isn't even HTTP gets its 400 without a line, or strangers would write our log."""
    logger = logging.getLogger("supervisor.http_parser")
    logger.setLevel(logging.CRITICAL + 1)
    return logger


def server_tls(cert: str, key: str) -> ssl.SSLContext | None:
    """TLS 1.2 or newer with this certificate (PEM); None without one. Raises ConfigError."""
    if not cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key or None)
    except OSError as error:  # ssl.SSLError is one
        what = error.strerror or str(error)
        raise ConfigError(f"HTTP_TLS_CERT is {cert!r} and HTTP_TLS_KEY {key!r}: {what}") from error
    return context


def _rejection(error: Exception, request: web.Request) -> CallRejected:
    """What is answered when something was raised, whatever it is."""
    match error:
        case CallRejected():
            return error
        case web.HTTPNotFound():
            return rest_errors.not_found(request.path)
        case web.HTTPMethodNotAllowed():
            allowed = " or ".join(sorted(error.allowed_methods))
            what = f"{rest_errors.shown(request.method)} is not allowed here; allowed is {allowed}"
            return CallRejected(Code.METHOD_NOT_ALLOWED, 405, what)
        case web.HTTPRequestEntityTooLarge():
            what = f"the body is too large; allowed are {MAX_BODY_BYTES} bytes"
            return CallRejected(Code.TOO_LARGE, 413, what)
        case web.HTTPException():
            return CallRejected(error.status, error.status, error.reason)
        case _:
            log.error("request_failed", action=request[VISIT].action, exc_info=error)
            return CallRejected(Code.INTERNAL, 500, "this is our fault; the log says more")


def _refusal(error: CallRejected) -> web.Response:
    response = json_answer(rest_errors.body(error), error.status)
    if isinstance(error, NotAuthenticated):
        response.headers["WWW-Authenticate"] = CHALLENGE
    elif isinstance(error, TooOften):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response
