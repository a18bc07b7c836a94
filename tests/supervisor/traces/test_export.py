"""Spans as OpenTelemetry's SDK has them: in memory, and on their way to a collector that fails."""

from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from structlog.testing import capture_logs

from supervisor.phone.allowed_hosts import read_hosts
from supervisor.phone.webhooks import WebhookError, Webhooks
from supervisor.traces.export import SpanExport, TellingExporter
from supervisor.traces.setup_traces import Span
from supervisor.traces.tracing import Tracing
from tests.calls.web import web_site

CALL_SID = "CA000102030405060708090a0b0c0d0e0f"
HERE = read_hosts("127.0.0.1", [])
TRACE_ID = 0x000102030405060708090A0B0C0D0E0F
CHILD = Span("stream", TRACE_ID, 2, 1100, 1900, {"server.port": 443}, "no answer", is_client=True)
ROOT = Span("call set-up", TRACE_ID, 1, 1000, 2000, {"ots.worker": 1}, children=(CHILD,))


@pytest.fixture(autouse=True)
def no_otel_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test sets is gone after it."""
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)


def told(span: Span, **environ: str) -> tuple[ReadableSpan, ...]:
    """A span as the SDK exports it, children first."""
    memory = InMemorySpanExporter()
    SpanExport(environ, SimpleSpanProcessor(memory)).tell(span)
    return memory.get_finished_spans()


def test_ids_times_and_kinds_are_ours() -> None:
    """After the fact, as they were."""
    child, root = told(ROOT)
    assert root.context
    assert child.context
    assert child.parent
    assert (root.context.trace_id, root.context.span_id, root.parent) == (TRACE_ID, 1, None)
    assert (child.context.trace_id, child.context.span_id) == (TRACE_ID, 2)
    assert child.parent.span_id == 1
    assert (root.name, root.start_time, root.end_time) == ("call set-up", 1000, 2000)
    assert (child.name, child.start_time, child.end_time) == ("stream", 1100, 1900)
    assert (root.kind, child.kind) == (SpanKind.INTERNAL, SpanKind.CLIENT)
    assert (dict(root.attributes or {}), dict(child.attributes or {})) == (
        {"ots.worker": 1},
        {"server.port": 443},
    )


def test_a_fault_is_a_status() -> None:
    """With its reason; without one the status is left unset, as the conventions say."""
    child, root = told(ROOT)
    assert (child.status.status_code, child.status.description) == (StatusCode.ERROR, "no answer")
    assert root.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, "open-telephony-stack"),
        ({"OTEL_SERVICE_NAME": "front-desk"}, "front-desk"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=night-desk"}, "night-desk"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test"}, "open-telephony-stack"),
    ],
)
def test_service_name(environ: dict[str, str], name: str) -> None:
    """The operator's, or else the package's."""
    _, root = told(ROOT, **environ)
    assert root.resource.attributes["service.name"] == name
    assert root.resource.attributes["service.version"]


@pytest.mark.parametrize(("ratio", "sampled"), [("0.0", False), ("1.0", True)])
def test_the_sampler_is_asked(ratio: str, sampled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By OpenTelemetry's variables: the voice server is told the same as the collector."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", ratio)
    memory = InMemorySpanExporter()
    sampler = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}
    export = SpanExport(sampler, SimpleSpanProcessor(memory))
    export.tell(ROOT)
    assert export.is_sampled(TRACE_ID) is sampled
    assert len(memory.get_finished_spans()) == (2 if sampled else 0)


class _Fails(SpanExporter):
    """A collector that can be away."""

    away = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Say what became of them."""
        return SpanExportResult.FAILURE if self.away else SpanExportResult.SUCCESS


def test_a_dead_collector_is_one_line() -> None:
    """However many batches are lost; and one when it is there again, with their number."""
    exporter = _Fails()
    export = SpanExport({}, SimpleSpanProcessor(TellingExporter(exporter)))
    with capture_logs() as logs:
        for _ in range(3):
            export.tell(ROOT)
        exporter.away = False
        export.tell(ROOT)
    assert [(line["event"], line.get("lost_spans")) for line in logs] == [
        ("traces_not_exported", None),
        ("traces_exported_again", 6),
    ]


def tracing(memory: InMemorySpanExporter) -> Tracing:
    """What a supervisor has, with the collector in memory."""
    return Tracing(SpanExport({}, SimpleSpanProcessor(memory)), lambda _: pytest.fail("no call"))


async def test_a_webhook_is_a_span_that_the_web_server_joins() -> None:
    """In the call's trace, with no path, no query and no form."""
    memory = InMemorySpanExporter()
    async with web_site() as site:
        site.pages["/a"] = b"<Response/>"
        async with Webhooks(HERE, "", tracing(memory).request) as webhooks:
            form = {"CallSid": CALL_SID, "From": "+15557654321", "Digits": "739146"}
            await webhooks.ask(f"{site.base}/a", "GET", form)
            await webhooks.ask(f"{site.base}/a", "GET", {})
        joined, other = site.asked
    [span] = memory.get_finished_spans()
    assert span.context
    assert (span.name, span.kind, span.context.trace_id) == ("GET", SpanKind.CLIENT, TRACE_ID)
    assert joined.traceparent == f"00-{CALL_SID[2:]}-{span.context.span_id:016x}-01"
    assert other.traceparent == ""
    assert dict(span.attributes or {}) == {
        "ots.call_sid": CALL_SID,
        "http.request.method": "GET",
        "server.address": "127.0.0.1",
        "server.port": int(site.base.rpartition(":")[2]),
    }


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/+15557654321", "http://127.0.0.1:99999/"])
async def test_a_webhook_that_fails(url: str) -> None:
    """Its span says why, without a number."""
    memory = InMemorySpanExporter()
    async with Webhooks(HERE, "", tracing(memory).request) as webhooks:
        with pytest.raises(WebhookError):
            await webhooks.ask(url, "POST", {"CallSid": CALL_SID})
    [span] = memory.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "WebhookError"
    assert span.status.description
    assert "15557654321" not in span.to_json()
