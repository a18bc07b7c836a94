"""The voice server's settings, read once from environment variables.

Pure: the environment is a mapping that goes in. The field `voice_agent_port` is the variable
`VOICE_AGENT_PORT`; a type's description says in words what is allowed.
"""

from collections.abc import Collection, Mapping
from typing import Annotated, Any

import msgspec

HEALTH_PATH = "/health"

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
        pattern=rf"^(?!{HEALTH_PATH}$)/[^\s?#]*$",
        description=f"a path like /media-stream, without ? or #, and not {HEALTH_PATH}",
    ),
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
    if config.agent not in agents:
        raise ConfigError(f"AGENT is {config.agent!r}: allowed is {' or '.join(sorted(agents))}")
    return config


def _convert(variable: str, text: str, kind: Any) -> Any:
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as error:
        allowed = kind.__metadata__[0].description
        raise ConfigError(f"{variable} is {text!r}: allowed is {allowed}") from error
