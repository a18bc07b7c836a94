"""When calls are traced, and what is refused."""

import sys

import pytest

from shim import environment
from shim.environment import ConfigError
from supervisor.traces.settings import TraceConfig, check
from supervisor.traces.tracing import check_traces, open_tracing

HERE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({}, ""),
        (HERE, "http://127.0.0.1:4318"),
        (
            {**HERE, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://c.example/v1/traces"},
            "https://c.example/v1/traces",
        ),
        ({**HERE, "OTEL_SDK_DISABLED": "true"}, ""),
        ({**HERE, "OTEL_TRACES_EXPORTER": "none"}, ""),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ""),
    ],
)
def test_endpoint(environ: dict[str, str], endpoint: str) -> None:
    """Without one there are no traces, whatever else is set for other programs."""
    config = environment.read(TraceConfig, environ)
    check(config)
    assert config.endpoint == endpoint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "'collector:4318', allowed is https"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:0/"}, "'http://h:0/', allowed is https"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://192.0.2.1:4318"}, "not encrypted"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://u:p@c.example/"}, r"'http://\*\*\*@c.example/'"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "'grpc', allowed is http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, "'grpc', allowed is http/protobuf"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "'zipkin', allowed is otlp or none"),
    ],
)
def test_refused(changes: dict[str, str], words: str) -> None:
    """The error names variable, value and what is allowed, and no password."""
    with pytest.raises(ConfigError, match=words):
        check(environment.read(TraceConfig, HERE | changes))


def test_an_encrypted_network() -> None:
    """ALLOW_UNENCRYPTED says that it is one."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://192.0.2.1", "ALLOW_UNENCRYPTED": "true"}
    check(environment.read(TraceConfig, environ))


def test_without_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint alone isn't enough: the error says what to install."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "supervisor.traces.export", raising=False)
    with pytest.raises(ConfigError, match=r"isn't installed.*uv sync.*--extra traces"):
        check_traces(HERE)
    assert check_traces({}) == ""
    assert open_tracing({}, lambda _: pytest.fail("no call")) is None
