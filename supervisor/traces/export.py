"""Hands spans to OpenTelemetry's SDK, which sends them to a collector by OTLP over HTTP.

A thread of the SDK's own sends them in batches from a queue that is bounded and drops what has no
room, so a collector that is slow or dead costs spans, and no call. All else is set by the
environment variables of OpenTelemetry (OTEL_EXPORTER_OTLP_*, OTEL_SERVICE_NAME,
OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_BSP_*), which the SDK reads itself.
"""

import asyncio
import logging
import os
import secrets
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from typing import Final

import opentelemetry.trace as otel
import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from supervisor.traces.setup_traces import ROOT, Span

log = structlog.get_logger()

PACKAGE: Final = "open-telephony-stack"
"""Also the service's name, where the operator gives none."""
CLOSE_S: Final = 3.0
"""At the end the last spans have so long to be sent."""


class SpanExport:
    """Tells spans. `processor` takes them from the SDK, by default towards the collector."""

    def __init__(self, environ: Mapping[str, str], processor: SpanProcessor | None = None) -> None:
        own = {name: value for name, value in environ.items() if name.startswith("OTEL_")}
        for name, value in own.items():  # those of .env, as the SDK reads the environment
            os.environ.setdefault(name, value)
        self._ids = _GivenIds()
        self._provider = TracerProvider(
            resource=_resource(own), id_generator=self._ids, shutdown_on_exit=False
        )
        self._processor = processor or BatchSpanProcessor(TellingExporter(OTLPSpanExporter()))
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer(PACKAGE, metadata.version(PACKAGE))

    def is_sampled(self, trace_id: int) -> bool:
        """Whether a trace is told: the sampler decides by its id."""
        decision = self._provider.sampler.should_sample(None, trace_id, ROOT).decision
        return decision is Decision.RECORD_AND_SAMPLE

    def new_span_id(self) -> int:
        """64 random bits, not 0, which would be no span."""
        return secrets.randbits(64) or 1

    def tell(self, span: Span, parent: otel.Span | None = None) -> None:
        """A span that is over, and its children."""
        self._ids.trace_id, self._ids.span_id = span.trace_id, span.span_id
        told = self._tracer.start_span(
            span.name,
            context=set_span_in_context(parent) if parent else None,
            kind=SpanKind.CLIENT if span.is_client else SpanKind.INTERNAL,
            attributes=span.attributes,
            start_time=span.begin_ns,
        )
        for child in span.children:
            self.tell(child, told)
        if span.error:
            told.set_status(Status(StatusCode.ERROR, span.error))
        told.end(span.end_ns)

    async def close(self) -> None:
        """Send what is left; a collector that doesn't answer is not waited for longer than 3 s."""
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        def shut_down() -> None:
            self._processor.shutdown()
            with suppress(RuntimeError):  # the loop is gone: nobody waits any more
                loop.call_soon_threadsafe(done.set)

        threading.Thread(target=shut_down, name="traces-end", daemon=True).start()
        try:
            await asyncio.wait_for(done.wait(), CLOSE_S)
        except TimeoutError:
            log.warning("traces_lost_at_the_end", waited_s=CLOSE_S)


class TellingExporter(SpanExporter):
    """Logs when spans can't be sent: once, and once more when they can again.

    The SDK logs each try; what it says is taken as the reason, and goes nowhere else.
    """

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._lost_spans = 0
        self._last = _LastWords()
        library = logging.getLogger("opentelemetry")
        library.handlers, library.propagate = [self._last], False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch, in the SDK's thread."""
        result = self._inner.export(spans)
        if result is SpanExportResult.SUCCESS:
            if self._lost_spans:
                log.info("traces_exported_again", lost_spans=self._lost_spans)
            self._lost_spans = 0
            return result
        if not self._lost_spans:
            log.warning("traces_not_exported", reason=self._last.words)
        self._lost_spans += len(spans)
        return result

    def shutdown(self) -> None:
        """Let go of connections."""
        self._inner.shutdown()


class _LastWords(logging.Handler):
    words = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.words = record.getMessage().partition("\n")[0]


class _GivenIds(IdGenerator):
    """Ids that others know already, when the span is told."""

    trace_id = span_id = 1

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


def _resource(own: Mapping[str, str]) -> Resource:
    """Who tells: by OpenTelemetry's variables, or else this package's name."""
    named = "OTEL_SERVICE_NAME" in own or "service.name=" in own.get("OTEL_RESOURCE_ATTRIBUTES", "")
    default = {} if named else {"service.name": PACKAGE}
    return Resource.create({"service.version": metadata.version(PACKAGE), **default})
