"""Settings from environment variables into one frozen Struct.

Pure: the environment is a mapping that goes in. A Struct's field `http_port` is the variable
`HTTP_PORT`; types and `msgspec.Meta` bounds say what is allowed.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin
from urllib.parse import urlsplit, urlunsplit

import msgspec

HIDDEN: Final = "***"

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
            shown = "(hidden)" if is_secret(name) else repr(without_secrets(value))
            allowed = _allowed(fields[name].type)
            raise ConfigError(f"{name.upper()} is {shown}: {error}{allowed}") from error
    try:
        return msgspec.convert(values, settings, strict=False)
    except msgspec.ValidationError as error:
        name = str(error).split("`")[1] if "missing required field" in str(error) else ""
        what = f"{name.upper()} is not set, and there is no default" if name else str(error)
        raise ConfigError(what) from error


def is_secret(name: str) -> bool:
    """Whether a setting's value must never be shown."""
    return any(word in name.lower() for word in ("pass", "token", "secret", "key"))


def without_secrets(value: str) -> str:
    """The value as it may be shown: a URL's user, password and query are hidden."""
    if "://" not in value:
        return value
    try:
        url = urlsplit(value)
    except ValueError:  # a host that can't be one
        return f"{value.partition('://')[0]}://{HIDDEN}"
    _, at, host = url.netloc.rpartition("@")
    hidden = {
        "netloc": f"{HIDDEN}@{host}" if at else host,
        "query": HIDDEN if url.query else "",
        "fragment": HIDDEN if url.fragment else "",
    }
    return urlunsplit(url._replace(**hidden))


def redacted(settings: msgspec.Struct) -> dict[str, object]:
    """The settings by variable name, secrets hidden, for people to read."""
    return {
        name.upper(): _redacted(name, value)
        for name, value in msgspec.structs.asdict(settings).items()
    }


def _redacted(name: str, value: object) -> object:
    if is_secret(name):
        return HIDDEN if value else ""
    return without_secrets(value) if isinstance(value, str) else value


def _allowed(kind: Any) -> str:
    """What msgspec's own message doesn't say: the values of a choice, the kind of number."""
    if get_origin(kind) is Literal:
        return f"; allowed is {' or '.join(get_args(kind))}"
    plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    words = {bool: "true or false", int: "a whole number", float: "a number"}
    return f"; allowed is {words[plain]}" if plain in words else ""
