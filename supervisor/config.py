"""The supervisor's settings, from the environment."""

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from shim.environment import ConfigError, without_secrets
from supervisor.api.access import Credentials, DoorSettings
from supervisor.api.rate_limit import Rate
from supervisor.ari.connection import AriSettings
from supervisor.phone.allowed_hosts import AllowedHosts, read_hosts
from supervisor.phone.inbound_routes import Route, RouteError, read_routes
from supervisor.phone.toll_guard import Prefix, read_prefixes
from supervisor.workers.admission import ASTERISK_PORTS_PER_CALL

MIN_ASTERISK_PORTS = 2 * ASTERISK_PORTS_PER_CALL
"""For one call; one more is the reserve of admission."""
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]


TOKEN_FILE = "token"
"""In the run directory, readable for the supervisor's user only."""
AUDIT_DIR = Path("/var/lib/open-telephony-stack")
AUDIT_FILE = "audit.jsonl"
RENEWABLE = frozenset(
    {
        "call_history_hours",
        "ecs_media_wss_fallback_url",
        "ecs_media_wss_url",
        "inbound_scripts",
        "max_calls",
        "on_stream_end",
        "on_stream_failed",
        "record_calls",
        "setup_timeout",
        "share_numbers",
        "stream_parameters",
        "twilio_account_sid",
        "twilio_auth_token",
        "webhook_hosts",
    }
)
"""What SIGHUP takes over of the supervisor's settings; it does so with all of the workers'."""


ARI_VARIABLES = {"base": "ARI_BASE", "user": "ARI_USER", "password": "ARI_PASS", "app": "ARI_APP"}


class SupervisorConfig(msgspec.Struct, frozen=True):
    """Read from the environment by `environment.read`; the field `x` is the variable `X`."""

    ari_user: str
    ari_pass: str
    ecs_media_wss_url: str
    """The voice server: wss:// (ws:// only on this machine, unless allowed)."""
    ecs_media_wss_fallback_url: str = ""
    """A second voice server, for calls that can't reach the first; empty: none."""
    ari_base: str = "http://127.0.0.1:8088"
    ari_app: str = "voice-agent"
    external_media_host: str = "127.0.0.1"
    """Where Asterisk sends the callers' audio: an address of this machine."""
    rtp_bind_host: str = ""
    """Where the RTP sockets are bound; empty: at EXTERNAL_MEDIA_HOST."""
    rtp_port_start: Port = 20000
    rtp_port_end: Port = 29999
    asterisk_rtp_start: Port = 10000
    asterisk_rtp_end: Port = 19999
    """Asterisk's own RTP ports, as in its rtp.conf: they bound the number of calls too."""
    workers: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    """0: one for each CPU that this process may use."""
    max_calls: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Calls at once; 0: as many as there are ports."""
    http_host: str = "127.0.0.1"
    http_port: Port = 8080
    http_tls_cert: str = ""
    http_tls_key: str = ""
    """PEM files; with a certificate HTTP is HTTPS. The key may be in the certificate's file."""
    api_token: Annotated[str, msgspec.Meta(pattern="^([!-~]{16,})?$")] = ""
    """Lets do everything by HTTP; empty: one is made at each start, in RUN_DIR."""
    api_keys_file: str = ""
    """API keys with roles (`supervisor.api.access`); empty: there are none."""
    api_requests_per_second: Annotated[float, msgspec.Meta(gt=0, le=10000)] = 50
    """Of each credential in the long run; twice as many at once."""
    audit_log: str = ""
    """Who did what to which call; empty: in /var/lib/open-telephony-stack or RUN_DIR; or off."""
    console: Literal["on", "off"] = "on"
    """The operator's page at /."""
    console_show_numbers: bool = False
    """Whether it shows numbers and names to those who may also operate; otherwise masked."""
    run_dir: str = ""
    """For control socket and port table; empty: on /dev/shm, or where temporary files go."""
    on_stream_end: Literal["hangup", "continue"] = "hangup"
    """What becomes of a caller when the voice server ends the stream."""
    on_stream_failed: Literal["hangup", "continue"] = "continue"
    """What becomes of a caller when no voice server can be reached."""
    setup_timeout: Seconds = 10
    drain_seconds: Annotated[float, msgspec.Meta(ge=0, le=86400)] = 2
    """After SIGTERM calls may go on for so long."""
    twilio_account_sid: Annotated[str, msgspec.Meta(pattern="^AC[0-9a-f]{32}$")] = "AC" + "0" * 32
    twilio_auth_token: str = ""
    """With the account's sid: credentials for calls by HTTP; signs webhooks. Empty: neither."""
    stream_parameters: str = "{}"
    """The operator's own customParameters, as a JSON object of strings."""
    share_numbers: bool = False
    """Whether the voice server is told the caller's and the called number."""
    inbound_scripts: str = ""
    """A JSON or TOML file: what happens to callers, by called number; empty: the stream."""
    webhook_hosts: str = ""
    """Hosts of TwiML, callbacks and sounds, by commas; *.example.com and * are public ones."""
    outbound_endpoint: str = "PJSIP/{number}@chime-out"
    """The channel that Asterisk originates for a number."""
    outbound_per_second: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 1
    outbound_prefixes: str = ""
    """Who may be called: PREFIX[:PER_HOUR[:AT_ONCE]], by commas; empty: nobody."""
    state_dir: str = ""
    """For phone calls, running and ended; empty: in RUN_DIR, until the supervisor is stopped."""
    call_history_hours: Annotated[float, msgspec.Meta(ge=0, le=8760)] = 24
    """How long ended calls are kept."""
    sounds_dir: str = ""
    """For sounds of <Play> and <Say>: a directory that Asterisk reads; empty: there are none."""
    say_command: str = ""
    """For <Say>: reads text, writes an 8 kHz mono WAV; empty: <Say> is skipped."""
    record_calls: bool = False
    """Whether all calls are recorded; otherwise those for which it is asked."""
    recording_dir: str = ""
    """Where workers keep recordings; empty: nothing can be recorded."""
    recording_kms_key_id: str = ""
    """The key of AWS KMS that seals recordings; empty: RECORDING_KEY_FILE does."""
    allow_unencrypted: bool = False
    """The network between Asterisk, workers and voice server is encrypted by other means."""
    core_dumps: bool = False
    """Whether the kernel may write a crashed process's memory, with all numbers and keys."""
    log_format: Literal["json", "text"] = "json"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    def run_path(self) -> Path:
        """The run directory."""
        if self.run_dir:
            return Path(self.run_dir)
        base = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path("/tmp")
        return base / f"open-telephony-stack-{os.getuid()}"

    def audit_path(self) -> Path | None:
        """The audit log's file; None if it is off."""
        if self.audit_log:
            return None if self.audit_log == "off" else Path(self.audit_log)
        durable = AUDIT_DIR if os.access(AUDIT_DIR, os.W_OK | os.X_OK) else self.run_path()
        return durable / AUDIT_FILE

    def door_settings(self, api_token: str) -> DoorSettings:
        """Who is let in by HTTP, with the API token in use."""
        return DoorSettings(
            Credentials(api_token, self.twilio_account_sid, self.twilio_auth_token),
            self.api_keys_file,
            Rate(self.api_requests_per_second, max(1, 2 * self.api_requests_per_second)),
        )

    def state_path(self) -> Path:
        """The directory for what outlives a supervisor."""
        return Path(self.state_dir) if self.state_dir else self.run_path()

    def routes(self) -> dict[str, Route]:
        """What happens to callers by called number; raises ConfigError."""
        if not self.inbound_scripts:
            return {}
        path = Path(self.inbound_scripts)
        try:
            text = path.read_text(encoding="utf-8")
            decode = msgspec.toml.decode if path.suffix == ".toml" else msgspec.json.decode
            content = decode(text, type=dict[str, Any])
            return read_routes(content, lambda name: (path.parent / name).read_text("utf-8"))
        except (OSError, UnicodeError, msgspec.DecodeError, RouteError) as error:
            raise ConfigError(
                f"INBOUND_SCRIPTS is {self.inbound_scripts!r}: {error}; allowed is a JSON or TOML "
                'file such as {"+15551234567": {"url": "https://host/twiml"}}'
            ) from error

    def prefixes(self) -> tuple[Prefix, ...]:
        """OUTBOUND_PREFIXES; raises ConfigError."""
        try:
            return read_prefixes(self.outbound_prefixes)
        except ValueError as error:
            raise ConfigError(f"OUTBOUND_PREFIXES has {error}") from error

    def hosts(self, routes: Mapping[str, Route]) -> AllowedHosts:
        """Whom webhooks may go to: WEBHOOK_HOSTS, and the hosts of our own URLs."""
        scripts = [route.script for route in routes.values() if route.script]
        urls = [url for script in scripts for url in (script.url, script.fallback_url)]
        streams = (self.ecs_media_wss_url, self.ecs_media_wss_fallback_url)
        return read_hosts(self.webhook_hosts, [*urls, *streams])

    def ari_settings(self) -> AriSettings:
        """Where ARI is, as whom, for which app; raises ConfigError."""
        try:
            return AriSettings(self.ari_base, self.ari_user, self.ari_pass, self.ari_app)
        except ValueError as error:
            field, _, what = str(error).partition(" ")
            what = what.replace(self.ari_base, without_secrets(self.ari_base))
            raise ConfigError(f"{ARI_VARIABLES[field]} {what}") from error

    def custom_parameters(self) -> dict[str, str]:
        """STREAM_PARAMETERS as a dictionary; raises ConfigError."""
        try:
            return msgspec.json.decode(self.stream_parameters, type=dict[str, str])
        except msgspec.DecodeError as error:
            raise ConfigError(
                f"STREAM_PARAMETERS is {self.stream_parameters!r}: {error}; "
                'allowed is a JSON object of strings, as {"tenant": "a"}'
            ) from error

    def fixed_differences(self, other: "SupervisorConfig") -> list[str]:
        """The variables in which another configuration differs, and that need a restart."""
        mine, others = msgspec.structs.asdict(self), msgspec.structs.asdict(other)
        return [
            name.upper() for name in mine if mine[name] != others[name] and name not in RENEWABLE
        ]

    def worker_cpus(self, usable: list[int]) -> tuple[int, ...]:
        """One CPU per worker, of those that this process may use, in turn."""
        count = self.workers or len(usable)
        return tuple(usable[index % len(usable)] for index in range(count))


def check(config: SupervisorConfig, workers: int) -> None:
    """Check what can only be seen by comparing settings.

    Raises:
        ConfigError: names variable, value and what is allowed.
    """
    _check_ports(config, workers)
    config.ari_settings()
    _check_url("ECS_MEDIA_WSS_URL", config.ecs_media_wss_url, ("ws", "wss"))
    if config.ecs_media_wss_fallback_url:
        _check_url("ECS_MEDIA_WSS_FALLBACK_URL", config.ecs_media_wss_fallback_url, ("ws", "wss"))
    config.custom_parameters()
    config.routes()
    config.prefixes()
    if config.record_calls and not config.recording_dir:
        raise ConfigError(
            "RECORD_CALLS is true, but RECORDING_DIR is not set; allowed is true with a directory "
            "to keep recordings in"
        )
    _check_encryption(config)


def _check_ports(config: SupervisorConfig, workers: int) -> None:
    start, end = config.rtp_port_start, config.rtp_port_end
    ports = end - start + 1
    if ports < workers:
        raise ConfigError(
            f"RTP_PORT_START is {start} and RTP_PORT_END is {end}: {max(ports, 0)} ports are too "
            f"few, allowed is at least one for each of the {workers} workers"
        )
    start, end = config.asterisk_rtp_start, config.asterisk_rtp_end
    if end - start + 1 < MIN_ASTERISK_PORTS:
        raise ConfigError(
            f"ASTERISK_RTP_START is {start} and ASTERISK_RTP_END is {end}, allowed is a range of "
            f"at least {MIN_ASTERISK_PORTS} ports"
        )


def _check_url(name: str, value: str, schemes: tuple[str, ...]) -> None:
    try:
        url = urlsplit(value)
        usable = url.scheme in schemes and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        allowed = " or ".join(f"{scheme}://host[:port]/..." for scheme in schemes)
        raise ConfigError(f"{name} is {without_secrets(value)!r}, allowed is {allowed}")


def _check_encryption(config: SupervisorConfig) -> None:
    """Plain RTP and plain WebSockets stay on this machine, unless the operator says otherwise."""
    if config.allow_unencrypted:
        return
    for name in ("ecs_media_wss_url", "ecs_media_wss_fallback_url"):
        value: str = getattr(config, name)
        url = urlsplit(value)
        if url.scheme == "ws" and not _is_loopback(url.hostname or ""):
            raise ConfigError(
                f"{name.upper()} is {without_secrets(value)!r}, which is not encrypted; "
                "allowed is wss://, or ws:// to this machine, or ALLOW_UNENCRYPTED=true on an "
                "encrypted network"
            )
    if not (config.http_tls_cert or _is_loopback(config.http_host)):
        raise ConfigError(
            f"HTTP_HOST is {config.http_host!r}, where credentials would not be encrypted; allowed "
            "is a loopback address, or HTTP_TLS_CERT, or ALLOW_UNENCRYPTED=true on an encrypted "
            "network"
        )
    if not _is_loopback(config.external_media_host):
        raise ConfigError(
            f"EXTERNAL_MEDIA_HOST is {config.external_media_host!r}, where RTP would not be "
            "encrypted; allowed is a loopback address, or ALLOW_UNENCRYPTED=true on an encrypted "
            "network"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
