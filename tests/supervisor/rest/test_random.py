"""Thousands of requests that nobody would send: the answer is JSON, and never our fault."""

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from supervisor.api.audit_chain import verify
from supervisor.phone.phone_call import CallStatus
from supervisor.rest.orders import OPERATIONS
from tests.supervisor.rest_rig import ACCOUNT, API_TOKEN, CALLS, RestRig, basic

REQUESTS = 2000
TALKING, ENDED = "CA" + "5" * 32, "CA" + "6" * 32
NAMES = (
    *("To", "From", "CallerId", "Url", "Twiml", "Method", "FallbackUrl", "FallbackMethod"),
    *("StatusCallback", "StatusCallbackMethod", "StatusCallbackEvent", "Timeout", "TimeLimit"),
    *("SendDigits", "Record", "MachineDetection", "ApplicationSid", "Status", "Trim", "Page"),
    *("PageSize", "PageToken", "ParentCallSid", "StartTime", "StartTime<", "EndTime>"),
)
WORDS = (
    *("+14155550123", "sip:a@b", "http://bot.example/", "<Response/>", "GET", "completed", "true"),
    *("canceled", "0", "60", "1e9", "-1", "9" * 30, "2009-07-06", "9999-12-31", "0001-01-01"),
    *("PA" + TALKING, "in-progress", "ringing busy", "http://[", "http://a:b/", "sip:", "+", "\0"),
)
PATHS = (
    *(CALLS, "/health", "/metrics", "/workers/1/restart", "/workers/9/restart"),
    *(f"/2010-04-01/Accounts/{ACCOUNT}/Calls/{sid}.json" for sid in (TALKING, ENDED)),
    *(f"/calls/{sid}/{name}" for sid in (TALKING, ENDED) for name in OPERATIONS),
)
MALFORMED, STRANGER, EXPECTATION = (400,), (401, 429), (417,)
METHODS = ("GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS")
TYPES = ("application/x-www-form-urlencoded", "application/json", "text/xml; charset=x", "", ";")


class Request(Struct, frozen=True):
    """Something to ask."""

    method: str
    path: str
    body: bytes
    headers: dict[str, str]


foreign = st.one_of(st.sampled_from(WORDS).map(str.encode), st.binary(max_size=20))
pairs = st.tuples(
    st.one_of(st.sampled_from(NAMES).map(str.encode), foreign).map(quote_from_bytes),
    foreign.map(quote_from_bytes),
).map("=".join)
forms = st.lists(pairs, max_size=8).map("&".join)
objects = st.dictionaries(
    st.sampled_from(("on", "target", "attended", "instead", "digits", "x")),
    st.one_of(st.sampled_from(WORDS), st.booleans(), st.none(), st.integers(), st.floats()),
).map(json.dumps)
segments = st.one_of(st.sampled_from(("..", "%2e%2e", "%2f", "%00", ".json", "Calls", "calls")))
tricks = st.lists(st.one_of(segments, foreign.map(quote_from_bytes)), max_size=6).map("/".join)
paths = st.one_of(
    st.sampled_from(PATHS),
    st.tuples(st.sampled_from(PATHS), tricks).map("/".join),
    tricks.map(lambda path: "/" + path),
)
authorizations = st.one_of(
    *([st.just(f"Bearer {API_TOKEN}")] * 4), st.just(basic()), st.text("ABCabc =:/+", max_size=20)
)
requests = st.builds(
    Request,
    st.sampled_from(METHODS),
    st.one_of(paths, st.tuples(paths, forms).map("?".join)),
    st.one_of(forms.map(str.encode), objects.map(str.encode), st.binary(max_size=50)),
    st.fixed_dictionaries(
        {"Authorization": authorizations, "Content-Type": st.sampled_from(TYPES)}
    ),
)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an interface that runs in a thread, with one call that talks and one ended."""
    audit_path: Path = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    started, stop = threading.Event(), asyncio.Event()
    found: list[int] = []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with RestRig(audit_path) as rig:
            for sid, status in ((TALKING, CallStatus.IN_PROGRESS), (ENDED, CallStatus.COMPLETED)):
                call = rig.calls.add(status)
                call.sid = sid
                rig.calls.calls[sid] = call
            found.append(int(rig.base.rpartition(":")[2]))
            started.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(10)
    yield found[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()
    with audit_path.open("rb") as file:
        verdict = verify(file)
    assert verdict.broken_line == 0
    assert verdict.lines > REQUESTS / 10


@settings(
    max_examples=REQUESTS,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(request=requests)
def test_any_request(port: int, request: Request) -> None:
    """A status that says whose fault it is, and a body that says which."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(request.method, request.path, request.body, request.headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status < 500, (request, body)
    if answer.status >= 400 and request.method != "HEAD":
        content = json.loads(body)
        assert content["status"] == answer.status
        assert {*content} == {"code", "message", "more_info", "status"}
        assert content["message"].isprintable()


@pytest.mark.parametrize(
    ("sent", "allowed"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", MALFORMED),
        (b"GET / HTTP/9.9\r\n\r\n", MALFORMED),
        (b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 9000 + b"\r\n\r\n", MALFORMED),
        (b"GET / HTTP/1.1\r\n" + b"A: a\r\n" * 500 + b"\r\n", MALFORMED),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", MALFORMED),
        (b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: \xff\xfe\r\n\r\n", STRANGER),
        (b"GET http:// HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
        (b"GET http://[ HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED),
        (b"GET //a/../b HTTP/1.1\r\nHost: a\r\n\r\n", STRANGER),
        (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 1\r\n\r\n", EXPECTATION),
        (
            f"POST {CALLS} HTTP/1.1\r\nHost: a\r\nAuthorization: {basic()}\r\n".encode()
            + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
            MALFORMED,
        ),
    ],
)
def test_what_is_hardly_http(port: int, sent: bytes, allowed: tuple[int, ...]) -> None:
    """It gets an answer, and the next one is served."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        peer.sendall(sent)
        answer = peer.recv(65536)
    assert int(answer.split()[1]) in allowed, answer
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/health")
    assert connection.getresponse().status == 200
    connection.close()
