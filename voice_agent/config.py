"""The voice server's settings, read once from environment variables.

Pure: the environment is a mapping that goes in. The field `voice_agent_port` is the variable
`VOICE_AGENT_PORT`; a type's description says in words what is allowed.
"""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, get_args

import msgspec

HEALTH_PATH = "/health"
METRICS_PATH = "/metrics"

_Host = Annotated[
    str,
    msgspec.Meta(pattern=r"^[^\s/]+$", description="a host name or an IP address"),
]
_Port = Annotated[
    int,
    msgspec.Meta(
        ge=0, le=65535, description="a whole number from 0 to 65535 (0 takes any free port)"
    ),
]
_Path = Annotated[
    str,
    msgspec.Meta(
        pattern=rf"^(?!({HEALTH_PATH}|{METRICS_PATH})$)/[^\s?#]*$",
        description="a path like /media-stream, without ? or #, and "
        f"not {HEALTH_PATH} or {METRICS_PATH}",
    ),
]
_Bool = Annotated[bool, msgspec.Meta(description="true or false")]
_Count = Annotated[int, msgspec.Meta(ge=1, description="a whole number from 1")]
_Bytes = Annotated[int, msgspec.Meta(ge=1024, description="a whole number of bytes from 1024")]
_Seconds = Annotated[float, msgspec.Meta(gt=0, description="a number of seconds above 0")]
_Ms = Annotated[int, msgspec.Meta(ge=0, le=5000, description="a whole number of ms, 0 to 5000")]
_Days = Annotated[int, msgspec.Meta(ge=1, le=3650, description="a whole number of days, 1 to 3650")]
_WebSocketUrl = Annotated[
    str, msgspec.Meta(pattern=r"^wss?://[^\s/?#]+\S*$", description="a ws:// or wss:// URL")
]
_HttpUrl = Annotated[
    str, msgspec.Meta(pattern=r"^https?://[^\s/?#]+\S*$", description="an http:// or https:// URL")
]
_Key = Annotated[str, msgspec.Meta(pattern=r"^[^:\s]+:\S+$", description="KEY_ID:SECRET")]
_Text = Annotated[str, msgspec.Meta(description="any text")]
_Vad = Annotated[Literal["energy", "webrtc"], msgspec.Meta(description="energy or webrtc")]
_Turns = Annotated[
    Literal["server_vad", "semantic_vad"], msgspec.Meta(description="server_vad or semantic_vad")
]


class ConfigError(ValueError):
    """A setting that can't be used; the text names variable, value and what is allowed."""


class Config(msgspec.Struct, frozen=True):
    """Where the voice server listens, and which agent answers.

    The default listens on loopback only: the stream is unencrypted, and whoever reaches the
    port can talk to the agent. Put a TLS proxy in front before opening it.
    """

    voice_agent_host: _Host = "127.0.0.1"
    voice_agent_port: _Port = 8081
    voice_agent_path: _Path = "/media-stream"
    agent: str = "offline"
    voice_agent_public_url: _WebSocketUrl | None = None
    """What callers' signatures are computed over; default: the request's own host and path."""
    twilio_auth_token: _Text = ""
    """Empty: signatures are not checked."""
    voice_agent_max_calls: _Count = 1000
    voice_agent_max_message_bytes: _Bytes = 64 * 1024
    """A 20 ms media message has 400 bytes; a `start` with many parameters stays below too."""
    voice_agent_idle_s: _Seconds = 30.0
    """A stream that says nothing for so long is closed: media comes 50 times a second."""
    voice_agent_vad: _Vad = "energy"
    """How the offline agent hears: `energy` hears tones too, `webrtc` ignores noise."""
    core_dumps: _Bool = False
    """Whether the kernel may write a crashed process's memory, with what was said."""
    voice_agent_record_dir: _Text = ""
    """Where calls' transcripts and timings are written. Empty: nowhere."""
    voice_agent_record_days: _Days = 30
    voice_agent_calls_url: _HttpUrl = "http://127.0.0.1:8080"
    """Where the telephony stack's HTTP interface is, for `transfer_call`."""
    voice_agent_calls_key: _Key = ""
    """An API key of it, KEY_ID:SECRET."""
    voice_agent_transfer_targets: _Text = "{}"
    """Whom a caller may be transferred to: JSON, {"name": "+14155550100"}. Empty: nobody."""
    openai_url: _WebSocketUrl = "wss://api.openai.com/v1/realtime"
    openai_api_key: _Text = ""
    openai_model: _Text = "gpt-realtime-2.1"
    openai_voice: _Text = "marin"
    openai_instructions: _Text = (
        "You answer a phone call. Be friendly and brief, one or two sentences at a time."
    )
    openai_transcription_model: _Text = "gpt-4o-mini-transcribe"
    openai_turn_detection: _Turns = "server_vad"
    openai_interrupt_ms: _Ms = 250
    """Speech shorter than this does not cut the agent off."""
    openai_tool_timeout_s: _Seconds = 10.0

    def transfer_targets(self) -> dict[str, str]:
        """VOICE_AGENT_TRANSFER_TARGETS by name; raises ConfigError."""
        text = self.voice_agent_transfer_targets
        try:
            return msgspec.json.decode(text, type=dict[str, str])
        except msgspec.DecodeError as error:
            raise ConfigError(
                f"VOICE_AGENT_TRANSFER_TARGETS is {text!r}: allowed is a JSON object of names and "
                'numbers or SIP URIs, as {"reception": "+14155550100"}'
            ) from error


def read_config(environ: Mapping[str, str], agents: Collection[str]) -> Config:
    """Read the settings; an empty variable counts as not set. `agents` are AGENT's values.

    Raises:
        ConfigError: a value is not allowed.
    """
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(Config):
        variable = field.name.upper()
        if text := environ.get(variable):
            values[field.name] = _convert(variable, text, field.type)
    config = Config(**values)
    if config.agent == "openai" and not config.openai_api_key:
        raise ConfigError("OPENAI_API_KEY is '': allowed is a key, or its file OPENAI_API_KEY_FILE")
    if config.transfer_targets() and not config.voice_agent_calls_key:
        raise ConfigError("VOICE_AGENT_CALLS_KEY is '': to transfer calls, needed is KEY_ID:SECRET")
    if config.agent not in agents:
        raise ConfigError(f"AGENT is {config.agent!r}: allowed is {' or '.join(sorted(agents))}")
    return config


def _convert(variable: str, text: str, kind: Any) -> Any:
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as error:
        annotated = next((k for k in (kind, *get_args(kind)) if hasattr(k, "__metadata__")), kind)
        allowed = annotated.__metadata__[0].description
        raise ConfigError(f"{variable} is {text!r}: allowed is {allowed}") from error
