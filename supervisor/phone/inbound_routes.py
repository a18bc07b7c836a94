"""What happens to callers, by the number that they called. Pure.

INBOUND_SCRIPTS is a JSON or TOML file: called number, or `*` for all others, to one of
`{"url": …}` (with `method`, `fallback_url`, `fallback_method`), `{"twiml_file": …}` and
`{"stream": "wss://…"}`. Without a rule the caller gets the operator's stream.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from supervisor.phone.phone_call import Script
from supervisor.phone.twiml import TwimlError, parse
from supervisor.phone.verbs import Connect, Verb

OTHERS = "*"


class RouteError(ValueError):
    """A rule that can't be followed; the text names it and what is allowed."""


class Route(Struct, frozen=True):
    """Either verbs that are known already, or a script to be asked for."""

    verbs: tuple[Verb, ...] = ()
    script: Script | None = None


class _Rule(Struct, frozen=True, forbid_unknown_fields=True):
    url: str = ""
    method: str = "POST"
    fallback_url: str = ""
    fallback_method: str = "POST"
    twiml_file: str = ""
    stream: str = ""


DEFAULT = Route(verbs=(Connect(""),))
"""Straight to the operator's stream."""


def read_routes(content: Mapping[str, Any], read_file: Callable[[str], str]) -> dict[str, Route]:
    """The routes by called number; `read_file` reads a TwiML file, and may raise OSError.

    Raises:
        RouteError: a rule isn't usable.
    """
    return {number: _route(number, rule, read_file) for number, rule in content.items()}


def route(routes: Mapping[str, Route], called: str) -> Route:
    """What happens to a caller of this number."""
    return routes.get(called) or routes.get(OTHERS) or DEFAULT


def _route(number: str, content: Any, read_file: Callable[[str], str]) -> Route:
    try:
        rule = msgspec.convert(content, _Rule)
        if [bool(rule.url), bool(rule.twiml_file), bool(rule.stream)].count(True) != 1:
            raise RouteError(f"{number}: needed is exactly one of url, twiml_file and stream")
        if rule.stream:
            if not rule.stream.startswith(("ws://", "wss://")):
                raise RouteError(f"{number}: stream is {rule.stream!r}, allowed is wss://host/...")
            return Route(verbs=(Connect(rule.stream),))
        if rule.twiml_file:
            return Route(verbs=parse(read_file(rule.twiml_file)))
        methods = {"POST", "GET"}
        if not {rule.method, rule.fallback_method} <= methods:
            raise RouteError(f"{number}: method is {rule.method!r}, allowed are POST and GET")
    except (msgspec.ValidationError, TwimlError, OSError, UnicodeError) as error:
        raise RouteError(f"{number}: {error}") from error
    script = Script(
        url=rule.url,
        method=rule.method,
        fallback_url=rule.fallback_url,
        fallback_method=rule.fallback_method,
    )
    return Route(script=script)
