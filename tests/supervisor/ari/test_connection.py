"""Settings, counters, back-off and words of the ARI connection."""

import socket
from typing import Any

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from supervisor.ari.connection import (
    BUCKETS_MS,
    AriCounters,
    AriSettings,
    Durations,
    retry_delay_s,
    was_cut_off,
    was_never_sent,
    why_failed,
)
from supervisor.ari.events import AriTimeout, refusal

KEY = ConnectionKey("asterisk", 8088, False, True, None, None, None)


def settings(**changes: Any) -> AriSettings:
    """Good settings, but for the changes."""
    good = {"base": "http://127.0.0.1:8088", "user": "u", "password": "s3cret", "app": "voice"}
    return AriSettings(**{**good, **changes})


@pytest.mark.parametrize(
    ("base", "root"),
    [
        ("http://127.0.0.1:8088", "http://127.0.0.1:8088/ari"),
        ("http://127.0.0.1:8088/", "http://127.0.0.1:8088/ari"),
        ("http://127.0.0.1:8088/ari", "http://127.0.0.1:8088/ari"),
        ("http://127.0.0.1:8088/ari/", "http://127.0.0.1:8088/ari"),
        ("https://pbx.example/asterisk", "https://pbx.example/asterisk/ari"),
        ("http://[::1]:8088", "http://[::1]:8088/ari"),
    ],
)
def test_the_root_of_all_paths(base: str, root: str) -> None:
    """The base may be given with /ari or without, and with http.conf's prefix."""
    assert settings(base=base).root == root


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"base": ""}, "base is '', allowed is http://host:port"),
        ({"base": "127.0.0.1:8088"}, "base is '127.0.0.1:8088', allowed is http://host:port"),
        ({"base": "ws://127.0.0.1"}, "base is 'ws://127.0.0.1', allowed"),
        ({"base": "http://127.0.0.1:65536"}, "base is 'http://127.0.0.1:65536', allowed"),
        ({"base": "http://127.0.0.1:http"}, "base is 'http://127.0.0.1:http', allowed"),
        ({"base": f"http://{'a' * 64}.example"}, "base is 'http://aaaa"),
        ({"base": "http://[::1"}, "base is 'http://\\[::1', allowed"),
        ({"base": "http://127.0.0.1?app=x"}, "base is 'http://127.0.0.1\\?app=x', allowed"),
        ({"user": ""}, "user is '', allowed is a name without a colon"),
        ({"user": "a:b"}, "user is 'a:b', allowed is a name without a colon"),
        ({"password": ""}, "password is empty, needed is the user's from ari.conf"),
        ({"app": ""}, "app is '', allowed is one name"),
        ({"app": "a,b"}, "app is 'a,b', allowed is one name"),
        ({"app": "a b"}, "app is 'a b', allowed is one name"),
        ({"connections": 0}, "connections is 0, allowed is more than 0"),
        ({"request_timeout_s": float("nan")}, "request_timeout_s is nan, allowed is more than 0"),
        ({"ping_idle_s": -1.0}, "ping_idle_s is -1.0, allowed is more than 0"),
        ({"ping_reply_s": 0.0}, "ping_reply_s is 0.0, allowed is more than 0"),
    ],
)
def test_bad_settings(changes: dict[str, Any], text: str) -> None:
    """A bad value is named, with what is allowed."""
    with pytest.raises(ValueError, match=text):
        settings(**changes)


def test_secrets_are_not_shown() -> None:
    """Neither the settings in a log nor the error about a URL with credentials has the password."""
    assert "s3cret" not in repr(settings())
    with pytest.raises(ValueError, match="have fields of their own") as caught:
        settings(base="http://u:s3cret@127.0.0.1:8088")
    assert "s3cret" not in str(caught.value)


def test_back_off() -> None:
    """The range of the wait doubles from 0.1 s to 10 s; chance picks a point of it."""
    assert [retry_delay_s(n, 0.5) for n in range(4)] == [0.05, 0.1, 0.2, 0.4]
    assert retry_delay_s(6, 0.5) == 3.2
    assert [retry_delay_s(n, 0.5) for n in (7, 8, 1000, 10**9)] == [5.0, 5.0, 5.0, 5.0]
    assert retry_delay_s(3, 0.0) == 0.0


def test_durations() -> None:
    """A duration on a bucket's bound belongs to it; one above all goes to the last count."""
    durations = Durations()
    for duration_us in (0, 1000, 1001, 5_000_000, 5_000_001):
        durations.add(duration_us)
    assert durations.counts == [2, 1, *[0] * (len(BUCKETS_MS) - 3), 1, 1]
    assert durations.sum_us == 10_002_002


def test_requests_are_counted_by_outcome() -> None:
    """Each outcome has its own count, and the time of all of them is kept."""
    counters = AriCounters()
    with counters.measure("answer"):
        pass
    for error in (AriTimeout("late"), refusal("x", 404, b""), refusal("x", 500, b"")):
        with pytest.raises(type(error)), counters.measure("answer"):
            raise error
    with pytest.raises(KeyboardInterrupt), counters.measure("answer"):
        raise KeyboardInterrupt
    assert counters.requests == {
        ("answer", "ok"): 1,
        ("answer", "timeout"): 1,
        ("answer", "absent"): 1,
        ("answer", "refused"): 1,
        ("answer", "cancelled"): 1,
    }
    assert sum(counters.durations["answer"].counts) == 5


DNS_ERROR = aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(-2, "Name or service not known"))
REFUSED = aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "Connect call failed"))
UNUSUAL = aiohttp.ClientConnectorError(KEY, OSError("odd"))


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (refusal("GET /x", 401, b""), "wrong user or password (401)"),
        (refusal("GET /x", 404, b""), "no ARI there (404): is it enabled in ari.conf and http.c"),
        (refusal("GET /x", 502, b""), "answered with 502"),
        (DNS_ERROR, "unknown host"),
        (REFUSED, "connection refused"),
        (aiohttp.ClientOSError(104, "Connection reset by peer"), "connection reset by peer"),
        (aiohttp.ServerDisconnectedError(), "closed without an answer (is sessionlimit"),
        (aiohttp.ClientConnectionResetError("closing"), "closed without an answer (is sessionl"),
        (TimeoutError(), "no answer in time"),
        (UNUSUAL, "ClientConnectorError: Cannot connect to host asterisk:8088"),
    ],
)
def test_reasons(error: Exception, why: str) -> None:
    """What happens often has words that help; everything else names the error."""
    assert why_failed(error).startswith(why)


@pytest.mark.parametrize(
    ("error", "cut_off", "never_sent"),
    [
        (aiohttp.ClientConnectionResetError("closing"), True, True),
        (aiohttp.ServerDisconnectedError(), True, False),
        (aiohttp.ClientOSError(104, "reset"), True, False),
        (aiohttp.ClientPayloadError("incomplete"), True, False),
        (REFUSED, False, False),
        (DNS_ERROR, False, False),
    ],
)
def test_what_may_be_tried_again(error: Exception, cut_off: bool, never_sent: bool) -> None:
    """A connection that stood and broke is worth another try; one that was refused is not."""
    assert (was_cut_off(error), was_never_sent(error)) == (cut_off, never_sent)
