"""The listener: calls at one path, `/health` and `/metrics`, and an end within a few seconds."""

import asyncio
import http
import socket
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Final, Self, TypeAlias

import msgspec
import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from voice_agent import signature
from voice_agent.config import HEALTH_PATH, METRICS_PATH, Config

PING_S: Final = 20.0
"""A peer that vanished without a word is noticed after two of these."""
SEND_BUFFER_BYTES: Final = 64 * 1024
"""Kernel buffer of a connection, about 6 s of audio. The kernel's own choice would hold minutes,
all of them in front of a `clear`."""
CLOSE_TIMEOUT_S: Final = 1.5
STOP_TIMEOUT_S: Final = 2.0
"""Longer than `CLOSE_TIMEOUT_S`, so that a stop closes calls properly, and within 3 s."""

CallHandler: TypeAlias = Callable[[ServerConnection], Awaitable[None]]

log = structlog.get_logger()


class ListenError(Exception):
    """The server can't listen; the text says where and why."""


class Health(msgspec.Struct):
    """The body of `/health`: calls served now, since the start, and failed since the start."""

    status: str = "ok"
    calls: int = 0
    calls_total: int = 0
    calls_failed: int = 0


class _HealthMetrics(Collector):
    """`Health`, and how many handshakes were refused and why, for Prometheus."""

    def __init__(self, health: Health, refused: dict[str, int]) -> None:
        self._health = health
        self._refused = refused

    def collect(self) -> Iterable[Metric]:
        health = self._health
        yield GaugeMetricFamily("voice_agent_calls_now", "Calls served now", health.calls)
        yield CounterMetricFamily("voice_agent_calls", "Calls served", health.calls_total)
        yield CounterMetricFamily("voice_agent_calls_failed", "Calls failed", health.calls_failed)
        refused = CounterMetricFamily("voice_agent_refused", "Calls refused", labels=["reason"])
        for reason, count in self._refused.items():
            refused.add_metric([reason], count)
        yield refused


class BoundedConnection(ServerConnection):
    """Buffers little, and closes within `CLOSE_TIMEOUT_S` also when the peer doesn't read.

    websockets' own time-out begins when the close frame is written, which may be never.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        super().connection_made(transport)

    async def close(
        self, code: CloseCode | int = CloseCode.NORMAL_CLOSURE, reason: str = ""
    ) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await super().close(code, reason)
        except TimeoutError:
            self.transport.abort()


class VoiceServer:
    """Accepts WebSockets and hands each to `handle_call`, in a task of its own.

    An async context manager: it listens inside, and on leaving it closes all calls with 1001.
    """

    def __init__(self, config: Config, handle_call: CallHandler) -> None:
        self._config = config
        self._handle_call = handle_call
        self._server: Server
        self.health = Health()
        self._refused = {"signature": 0, "calls": 0}
        self._metrics = CollectorRegistry()
        self._metrics.register(_HealthMetrics(self.health, self._refused))

    @property
    def port(self) -> int:
        """The TCP port it listens on, also when the setting is 0."""
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            ListenError: the address is not ours, or in use.
        """
        host, port = self._config.voice_agent_host, self._config.voice_agent_port
        try:
            self._server = await serve(
                self._serve,
                host,
                port,
                compression=None,  # it would cost memory and time for each call
                process_request=self._route,
                server_header=None,
                create_connection=BoundedConnection,
                ping_interval=PING_S,
                ping_timeout=PING_S,
                close_timeout=CLOSE_TIMEOUT_S,
                max_size=self._config.voice_agent_max_message_bytes,
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise ListenError(
                f"VOICE_AGENT_HOST {host!r}, VOICE_AGENT_PORT {port}: can't listen: {reason}"
            ) from error
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close(code=CloseCode.GOING_AWAY, reason="the voice server stops")
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._server.wait_closed()
        except TimeoutError:
            # Connections that never sent a request: no call, and they end with the event loop.
            log.warning("stopped_with_open_connections", waited_s=STOP_TIMEOUT_S)

    def _route(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer plain HTTP; None lets the WebSocket's opening handshake go on."""
        path = request.path.partition("?")[0]
        if path == self._config.voice_agent_path:
            return self._admit(request)
        if path == HEALTH_PATH:
            return _respond(http.HTTPStatus.OK, msgspec.json.encode(self.health))
        if path == METRICS_PATH:
            metrics = generate_latest(self._metrics)
            return _respond(http.HTTPStatus.OK, metrics, "text/plain; version=0.0.4")
        body = msgspec.json.encode({"error": f"calls are at {self._config.voice_agent_path}"})
        return _respond(http.HTTPStatus.NOT_FOUND, body)

    def _admit(self, request: Request) -> Response | None:
        """Refuse a call that nobody vouches for, or that is one too many."""
        config = self._config
        if config.twilio_auth_token:
            host = request.headers.get("Host", "")
            urls = signature.urls_of(host, request.path, config.voice_agent_public_url)
            given = request.headers.get(signature.HEADER, "")
            if not signature.is_signed(given, config.twilio_auth_token, urls):
                return self._refuse("signature", http.HTTPStatus.FORBIDDEN, "not signed for us")
        if self.health.calls >= config.voice_agent_max_calls:
            busy = http.HTTPStatus.SERVICE_UNAVAILABLE
            return self._refuse("calls", busy, f"{config.voice_agent_max_calls} calls are the most")
        return None

    def _refuse(self, reason: str, status: http.HTTPStatus, detail: str) -> Response:
        self._refused[reason] += 1
        log.warning("call_refused", reason=reason)
        return _respond(status, msgspec.json.encode({"error": detail}))

    async def _serve(self, websocket: ServerConnection) -> None:
        """A call's task: here its unexpected errors end. It closes the WebSocket."""
        self.health.calls += 1
        self.health.calls_total += 1
        try:
            await self._handle_call(websocket)
        except Exception:
            self.health.calls_failed += 1
            log.exception("call_failed")
            await websocket.close(CloseCode.INTERNAL_ERROR, "the agent failed")
        finally:
            self.health.calls -= 1


def _respond(
    status: http.HTTPStatus, body: bytes, content_type: str = "application/json"
) -> Response:
    headers = Headers(
        {
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
    )
    return Response(status.value, status.phrase, headers, body)
