"""ARI's REST calls against a server that answers badly, late, or not at all."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from supervisor.ari.connection import AriSettings
from supervisor.ari.events import (
    AriDecodeError,
    AriError,
    AriRefused,
    AriTimeout,
    AriUnreachable,
)
from supervisor.ari.rest import AriRest
from tests.supervisor.ari_server import (
    APP,
    PASSWORD,
    USER,
    AriServer,
    Behaviour,
    breaks_off,
    hangs_up,
    keeps_silent,
    resets,
    says,
    until,
)

TIMEOUT_S = 0.5
INFO = "GET /asterisk/info"
GOOD_INFO = says(200, '{"system":{"version":"22.10.1"}}')


@pytest.fixture
async def server() -> AsyncIterator[AriServer]:
    """An ARI that answers 204 to everything that the test doesn't script."""
    async with AriServer() as running:
        yield running


@pytest.fixture
async def rest(server: AriServer) -> AsyncIterator[AriRest]:
    """The calls, in no hurry."""
    rest = AriRest(AriSettings(server.base, USER, PASSWORD, APP))
    yield rest
    await rest.close()


@pytest.fixture
async def hasty(server: AriServer) -> AsyncIterator[AriRest]:
    """The calls, with a short time-out."""
    rest = AriRest(AriSettings(server.base, USER, PASSWORD, APP, request_timeout_s=TIMEOUT_S))
    yield rest
    await rest.close()


@pytest.mark.parametrize("status", [301, 400, 403, 409, 500, 503])
async def test_refusals(server: AriServer, rest: AriRest, status: int) -> None:
    """Every other status is an error with Asterisk's own words, at once and only once."""
    server.script[INFO] = [says(status, '{"message":"because"}')]
    with pytest.raises(AriRefused) as caught:
        await rest.info()
    assert (caught.value.status, caught.value.message) == (status, "because")
    assert server.count("GET", "/asterisk/info") == 1


async def test_wrong_password(server: AriServer) -> None:
    """It is refused with 401, and the error doesn't tell what was tried."""
    rest = AriRest(AriSettings(server.base, USER, "s3cret", APP))
    with pytest.raises(AriRefused, match="answered with 401: Authentication required") as caught:
        await rest.info()
    await rest.close()
    assert "s3cret" not in repr(caught.value)


async def test_no_answer_in_time(server: AriServer, hasty: AriRest) -> None:
    """A request that is not answered ends with the time-out, and is not sent again."""
    server.script["POST /channels/1/answer"] = [keeps_silent]
    started = time.monotonic()
    with pytest.raises(AriTimeout, match=r"POST /channels/1/answer: no answer within 0\.5 s"):
        await hasty.answer("1")
    assert TIMEOUT_S <= time.monotonic() - started < TIMEOUT_S + 1
    assert server.count("POST", "/channels/1/answer") == 1
    assert hasty.counters.requests == {("answer", "timeout"): 1}
    assert sum(hasty.counters.durations["answer"].counts[8:]) == 1  # above 250 ms


@pytest.mark.parametrize("fault", [hangs_up, resets, breaks_off])
async def test_no_answer_at_first(server: AriServer, rest: AriRest, fault: Behaviour) -> None:
    """What does no harm twice is asked again until it is answered."""
    server.script[INFO] = [fault, fault, fault, GOOD_INFO]
    server.script["POST /channels/1/answer"] = [fault, says(204)]
    assert (await rest.info()).system.version == "22.10.1"
    await rest.answer("1")
    assert rest.counters.requests == {("info", "ok"): 1, ("answer", "ok"): 1}
    assert rest.counters.closed_without_answer >= 2  # aiohttp repeats a GET once by itself


async def test_no_answer_ever(server: AriServer, hasty: AriRest) -> None:
    """Asking again is bounded by the request's time-out, and gets slower on the way."""
    server.script[INFO] = [hangs_up]
    started = time.monotonic()
    with pytest.raises(AriUnreachable, match="GET /asterisk/info: closed without an answer"):
        await hasty.info()
    assert TIMEOUT_S <= time.monotonic() - started < TIMEOUT_S + 1
    assert 2 <= hasty.counters.closed_without_answer < 100
    assert hasty.counters.requests == {("info", "unreachable"): 1}


@pytest.mark.parametrize("fault", [hangs_up, resets, breaks_off])
async def test_what_may_have_been_done(server: AriServer, rest: AriRest, fault: Behaviour) -> None:
    """A request that must not be done twice is sent once; its owner learns of the doubt."""
    server.script["POST /channels/1/dtmf"] = [fault]
    with pytest.raises(AriUnreachable, match="POST /channels/1/dtmf"):
        await rest.send_dtmf("1", "5")
    assert server.count("POST", "/channels/1/dtmf") == 1


async def test_nobody_listens(server: AriServer, rest: AriRest) -> None:
    """When the connection is refused, the call fails at once."""
    await server.stop()
    with pytest.raises(AriUnreachable, match="GET /asterisk/info: connection refused"):
        await rest.info()


async def test_a_peer_that_is_no_web_server() -> None:
    """Something else on the port is reported as such."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"SIP/2.0 400 Bad Request\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        rest = AriRest(AriSettings(f"http://127.0.0.1:{port}", USER, PASSWORD, APP))
        with pytest.raises(AriUnreachable, match="GET /asterisk/info: answered, but not in HTTP"):
            await rest.info()
        await rest.close()


@pytest.mark.parametrize("body", ["", "[]", "hello", '{"system":{"version":22}}'])
async def test_an_answer_that_makes_no_sense(server: AriServer, rest: AriRest, body: str) -> None:
    """It is an error of its own, and counted as one."""
    server.script[INFO] = [says(200, body)]
    with pytest.raises(AriDecodeError):
        await rest.info()
    assert rest.counters.requests == {("info", "unreadable"): 1}


async def test_a_request_that_its_owner_gives_up(server: AriServer, rest: AriRest) -> None:
    """Cancelling ends it at once, and is counted."""
    server.script[INFO] = [keeps_silent]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await rest.info()
    assert rest.counters.requests == {("info", "cancelled"): 1}


async def test_closing_under_way(server: AriServer, rest: AriRest) -> None:
    """A request that is waiting for its answer fails when the connections are closed."""
    server.script[INFO] = [keeps_silent]
    asking = asyncio.create_task(rest.info())
    await until(lambda: bool(server.seen))
    await rest.close()
    with pytest.raises(AriError):
        await asking
