"""HTTP for people and monitoring: `/health` and `/metrics`."""

from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from shim.environment import ConfigError


class HttpApi:
    """Serves until it is closed.

    Args:
        health: the content of `/health`.
        registry: what `/metrics` shows.
    """

    def __init__(self, health: Callable[[], dict[str, Any]], registry: CollectorRegistry) -> None:
        self._health = health
        self._registry = registry
        app = web.Application()
        app.add_routes(
            [web.get("/health", self._get_health), web.get("/metrics", self._get_metrics)]
        )
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            ConfigError: the port is in use, or the address is not this machine's.
        """
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port, shutdown_timeout=1).start()
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
        health = self._health()
        status = 200 if health["status"] in ("ok", "draining") else 503
        body = msgspec.json.format(msgspec.json.encode(health), indent=2)
        return web.Response(body=body, status=status, content_type="application/json")

    async def _get_metrics(self, _: web.Request) -> web.Response:
        body = generate_latest(self._registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})
