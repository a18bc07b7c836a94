"""Whether calls are traced, from OpenTelemetry's own environment variables. Pure."""

from typing import Final
from urllib.parse import urlsplit

import msgspec

from shim.environment import ConfigError, without_secrets

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
PROTOCOL: Final = "http/protobuf"


class TraceConfig(msgspec.Struct, frozen=True):
    """Read by `environment.read`; the SDK reads the same variables, and more, itself."""

    otel_exporter_otlp_endpoint: str = ""
    """The collector; empty: calls aren't traced."""
    otel_exporter_otlp_traces_endpoint: str = ""
    """The same for traces alone, with the whole path; goes first."""
    otel_exporter_otlp_protocol: str = PROTOCOL
    otel_exporter_otlp_traces_protocol: str = ""
    otel_traces_exporter: str = "otlp"
    otel_sdk_disabled: bool = False
    allow_unencrypted: bool = False

    @property
    def endpoint(self) -> str:
        """Where traces go; empty: nowhere."""
        if self.otel_sdk_disabled or self.otel_traces_exporter == "none":
            return ""
        return self.otel_exporter_otlp_traces_endpoint or self.otel_exporter_otlp_endpoint


def check(config: TraceConfig) -> None:
    """Check what its type doesn't say; raises ConfigError. Without an endpoint all is allowed."""
    if not config.endpoint:
        return
    shown = without_secrets(config.endpoint)
    try:
        url = urlsplit(config.endpoint)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT is {shown!r}, allowed is https://host[:port]/..."
        )
    if url.scheme == "http" and url.hostname not in LOOPBACK and not config.allow_unencrypted:
        raise ConfigError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT is {shown!r}, which is not encrypted; allowed is "
            "https://, or http:// to this machine, or ALLOW_UNENCRYPTED=true on an encrypted "
            "network"
        )
    protocol = config.otel_exporter_otlp_traces_protocol or config.otel_exporter_otlp_protocol
    if protocol != PROTOCOL:
        raise ConfigError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}, allowed is {PROTOCOL}")
    if config.otel_traces_exporter != "otlp":
        raise ConfigError(
            f"OTEL_TRACES_EXPORTER is {config.otel_traces_exporter!r}, allowed is otlp or none"
        )
