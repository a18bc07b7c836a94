"""Joins the set-ups that are timed with OpenTelemetry; without a collector there is none of it."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shim import environment
from shim.environment import ConfigError, without_secrets
from shim.masking import mask
from supervisor.calls.state import Call
from supervisor.traces.settings import TraceConfig, check
from supervisor.traces.setup_traces import (
    Facts,
    SetupTraces,
    Span,
    server_attributes,
    trace_id_of,
    traceparent,
)

if TYPE_CHECKING:
    from supervisor.traces.export import SpanExport


class Tracing:
    """Of one supervisor. `facts` tells what the call table doesn't know of a call."""

    def __init__(self, export: "SpanExport", facts: Callable[[Call], Facts]) -> None:
        self._export = export
        self._facts = facts
        self.setups = SetupTraces(export.new_span_id, export.is_sampled)

    def settle(self) -> None:
        """Tell of the set-ups that are over."""
        for span in self.setups.settle(self._facts, time.monotonic_ns(), time.time_ns()):
            self._export.tell(span)

    @contextmanager
    def request(self, call_sid: str, method: str, url: str) -> Iterator[str]:
        """A request about a call to a web server, a span of its own; gives its `traceparent`."""
        trace_id, span_id = trace_id_of(call_sid), self._export.new_span_id()
        began_ns, fault, error = time.time_ns(), "", ""
        try:
            yield traceparent(trace_id, span_id, sampled=self._export.is_sampled(trace_id))
        except Exception as failure:
            fault, error = type(failure).__name__, str(failure)
            raise
        finally:
            about = {"ots.call_sid": call_sid, "http.request.method": method}
            self._export.tell(
                Span(
                    name=method,
                    trace_id=trace_id,
                    span_id=span_id,
                    begin_ns=began_ns,
                    end_ns=time.time_ns(),
                    attributes=about
                    | server_attributes(url)
                    | ({"error.type": fault} if fault else {}),
                    error=mask(error),
                    is_client=True,
                )
            )

    async def close(self) -> None:
        """Tell what is left."""
        self.settle()
        await self._export.close()


def check_traces(environ: Mapping[str, str]) -> str:
    """The collector's endpoint, "" if there is none.

    Raises:
        ConfigError: it can't be used, or OpenTelemetry isn't installed.
    """
    config = environment.read(TraceConfig, environ)
    check(config)
    if config.endpoint:
        try:
            import supervisor.traces.export  # noqa: F401 - only who wants traces pays for it
        except ImportError as error:
            raise ConfigError(
                f"OTEL_EXPORTER_OTLP_ENDPOINT is {without_secrets(config.endpoint)!r}, but "
                f"OpenTelemetry isn't installed ({error}); allowed is that after "
                "`uv sync --locked --no-dev --extra traces`"
            ) from error
    return config.endpoint


def open_tracing(environ: Mapping[str, str], facts: Callable[[Call], Facts]) -> Tracing | None:
    """What traces calls, None without a collector; raises ConfigError."""
    if not check_traces(environ):
        return None
    from supervisor.traces.export import SpanExport

    return Tracing(SpanExport(environ), facts)
