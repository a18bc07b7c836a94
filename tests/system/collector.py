"""An OTLP/HTTP collector and a voice server under test: what each was sent.

async with collector() as heard:
    ...
    heard.spans, heard.handshakes
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests import phi_watch


class Collector:
    """What came so far: spans, services' names, handshakes' headers.

    `status` is the answer, which waits for `answers`.
    """

    def __init__(self) -> None:
        self.base = ""
        self.status = 200
        self.requests = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.spans: list[Span] = []
        self.services: set[str] = set()
        self.handshakes: list[Mapping[str, str]] = []

    def named(self, name: str) -> list[Span]:
        """The spans of a name."""
        return [span for span in self.spans if span.name == name]

    @property
    def stream_url(self) -> str:
        """A voice server that listens, and says nothing."""
        return self.base.replace("http", "ws") + "/stream"

    async def take(self, request: web.Request) -> web.Response:
        """POST /v1/traces; all that is sent is searched for callers' data."""
        body = await request.read()
        self.requests += 1
        await self.answers.wait()
        phi_watch.look("exported spans", body)
        if self.status == 200:
            message = ExportTraceServiceRequest.FromString(body)
            for resource_spans in message.resource_spans:
                phi_watch.look("exported spans, as text", str(resource_spans))
                attributes = resource_spans.resource.attributes
                self.services |= {
                    each.value.string_value for each in attributes if each.key == "service.name"
                }
                for scope_spans in resource_spans.scope_spans:
                    self.spans.extend(scope_spans.spans)
        content = ExportTraceServiceResponse().SerializeToString()
        kind = "application/x-protobuf"
        return web.Response(status=self.status, body=content, content_type=kind)

    async def stream(self, request: web.Request) -> web.WebSocketResponse:
        """A WebSocket, read to its end."""
        self.handshakes.append(request.headers)
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        async for _ in websocket:
            pass
        return websocket


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """It listens on a free port of 127.0.0.1."""
    heard = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", heard.take)
    app.router.add_get("/stream", heard.stream)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0]
        heard.base = f"http://{host}:{port}"
        yield heard
    finally:
        await runner.cleanup()
