"""What happens to callers, by the number that they called."""

from typing import Any

import pytest

from supervisor.phone.inbound_routes import DEFAULT, RouteError, read_routes, route
from supervisor.phone.phone_call import Script
from supervisor.phone.verbs import Connect, Hangup

FILES = {"a.xml": "<Response><Hangup/></Response>", "bad.xml": "<Response><Gather/></Response>"}


def read_file(name: str) -> str:
    """A file of the operator's."""
    if name not in FILES:
        raise FileNotFoundError(2, "no such file", name)
    return FILES[name]


def test_routes() -> None:
    """A URL, a file, a stream; others get `*`, and without it the operator's stream."""
    rules = {
        "+1": {"url": "https://h/a", "fallback_url": "https://h/b"},
        "+2": {"twiml_file": "a.xml"},
        "*": {"stream": "wss://h/s"},
    }
    routes = read_routes(rules, read_file)
    assert route(routes, "+1").script == Script(url="https://h/a", fallback_url="https://h/b")
    assert route(routes, "+2").verbs == (Hangup(),)
    assert route(routes, "+3").verbs == (Connect("wss://h/s"),)
    assert route({}, "+3") is DEFAULT


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({}, "exactly one of url, twiml_file and stream"),
        ({"url": "https://h", "stream": "wss://h"}, "exactly one"),
        ({"uri": "https://h"}, "uri"),
        ({"url": 5}, "str"),
        ({"stream": "https://h"}, "allowed is wss"),
        ({"url": "https://h", "method": "PUT"}, "allowed are POST and GET"),
        ({"twiml_file": "none.xml"}, "no such file"),
        ({"twiml_file": "bad.xml"}, "<Gather> is no verb"),
    ],
)
def test_unusable_rules(rule: dict[str, Any], words: str) -> None:
    """The error names the number, and what is wrong."""
    with pytest.raises(RouteError, match=rf"\+1: .*{words}"):
        read_routes({"+1": rule}, read_file)
