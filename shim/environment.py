"""Settings from environment variables into one frozen Struct.

Pure: the environment is a mapping that goes in. A Struct's field `http_port` is the variable
`HTTP_PORT`; types and `msgspec.Meta` bounds say what is allowed.
"""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)


class ConfigError(ValueError):
    """A setting that can't be used; the text names variable, value and what is allowed."""


def read(settings: type[T], environ: Mapping[str, str]) -> T:
    """Read the Struct's fields from the environment; an empty variable counts as not set.

    Raises:
        ConfigError: a value is missing or not allowed.
    """
    fields = {field.name: field for field in msgspec.structs.fields(settings)}
    values = {name: environ[name.upper()] for name in fields if environ.get(name.upper())}
    for name, value in values.items():
        try:
            msgspec.convert(value, fields[name].type, strict=False)
        except msgspec.ValidationError as error:
            shown = "(hidden)" if is_secret(name) else repr(value)
            raise ConfigError(f"{name.upper()} is {shown}: {error}") from error
    try:
        return msgspec.convert(values, settings, strict=False)
    except msgspec.ValidationError as error:
        name = str(error).split("`")[1] if "missing required field" in str(error) else ""
        what = f"{name.upper()} is not set, and there is no default" if name else str(error)
        raise ConfigError(what) from error


def is_secret(name: str) -> bool:
    """Whether a setting's value must never be shown."""
    return any(word in name.lower() for word in ("pass", "token", "secret", "key"))


def redacted(settings: msgspec.Struct) -> dict[str, object]:
    """The settings by variable name, secrets hidden, for people to read."""
    return {
        name.upper(): ("***" if value else "") if is_secret(name) else value
        for name, value in msgspec.structs.asdict(settings).items()
    }
