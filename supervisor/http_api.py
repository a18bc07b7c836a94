"""HTTP for people and monitoring: `/health` and `/metrics`, and the restart of workers.

What changes something needs the token, as `Authorization: Bearer ...`.
"""

import hmac
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog
from aiohttp import web
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from shim.environment import ConfigError
from supervisor.worker_pool import PoolError

log = structlog.get_logger()


class Answers(Struct, frozen=True):
    """Where the answers come from: `/health`, `/metrics`, and who replaces a worker."""

    health: Callable[[], dict[str, Any]]
    registry: CollectorRegistry
    restart_worker: Callable[[int], Awaitable[None]]


class HttpApi:
    """Serves until it is closed. `token` is what changes need."""

    def __init__(self, answers: Answers, token: str) -> None:
        self._answers = answers
        self._token = token
        app = web.Application()
        app.add_routes(
            [
                web.get("/health", self._get_health),
                web.get("/metrics", self._get_metrics),
                web.post(r"/workers/{worker:\d{1,4}}/restart", self._restart_worker),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            ConfigError: the port is in use, or the address is not this machine's.
        """
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(
                f"HTTP_HOST is {host!r} and HTTP_PORT is {port}: {error.strerror}; "
                "allowed is an address of this machine and a port that no other program has"
            ) from error

    async def close(self) -> None:
        """Stop to listen."""
        await self._runner.cleanup()

    async def _get_health(self, _: web.Request) -> web.Response:
        health = self._answers.health()
        status = 200 if health["status"] in ("ok", "draining") else 503
        return _json(health, status)

    async def _get_metrics(self, _: web.Request) -> web.Response:
        body = generate_latest(self._answers.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _restart_worker(self, request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            return _json({"error": "needed is the header Authorization: Bearer <API_TOKEN>"}, 401)
        worker = int(request.match_info["worker"])
        log.info("worker_restart_requested", worker=worker)
        try:
            await self._answers.restart_worker(worker)
        except PoolError as error:
            return _json({"error": str(error)}, 409)
        return _json({"worker": worker, "restarted": True}, 200)


def _json(content: dict[str, Any], status: int) -> web.Response:
    body = msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"
    return web.Response(body=body, status=status, content_type="application/json")
