"""Calls that are over leave nothing to the garbage collector, whose turns would hold up audio."""

import asyncio
import gc
import socket
import ssl
import weakref
from collections.abc import Iterator

import pytest

from shim.call_session import CallSession, StreamSettings
from shim.control import FromWorker, StartCall, StreamStarted
from shim.link_opener import LinkOpener
from shim.media_clock import MediaClock
from tests.shim.link_owner import SETTINGS
from tests.shim.polling import until
from tests.shim.raw_server import CLOSE, TEXT, RawConnection, RawServer, close_frame, ws_frame
from tests.shim.samples import call_spec
from tests.shim.test_agent_link_tls import client_tls, server_tls

STREAMS = StreamSettings(connect_budget_s=5, buffer_limit_ms=1000)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """The collector has just run, and doesn't run again."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def answer_close(connection: RawConnection) -> None:
    """A voice server that says something, and waits for the end."""
    await connection.accept()
    await connection.send(ws_frame(TEXT, b'{"event":"clear"}'))
    await connection.read_frames(until=CLOSE)
    await connection.send(close_frame(1000))


async def one_call(url: str, opener: LinkOpener) -> list[weakref.ref[object]]:
    """A call from its start to the end of its WebSocket; its session and link."""
    reports: list[FromWorker] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asterisk:
        asterisk.bind(("127.0.0.1", 0))
        rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        rtp.connect(asterisk.getsockname())
        clock = MediaClock()
        words = memoryview(bytearray(24)).cast("Q")
        call = call_spec(url=url)
        session = CallSession(StartCall(call), rtp, words, STREAMS, opener, reports.append)
        session.connect_media(clock)
        session.start()
        await until(lambda: any(isinstance(each, StreamStarted) for each in reports), "the stream")
        session.press_digit("1")
        link = session.end(clock)
        assert link is not None
        await asyncio.wait_for(link.wait_closed(), 5)
        clock.close()
    return [weakref.ref(session), weakref.ref(link)]


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("encrypted", [False, True], ids=["ws", "wss"])
async def test_an_ended_call_is_no_garbage(encrypted: bool) -> None:
    """Session and link are freed as soon as the last one to need them lets go."""
    tls = client_tls() if encrypted else ssl.create_default_context()
    async with RawServer(answer_close, tls=server_tls() if encrypted else None) as server:
        things = await one_call(server.url, LinkOpener(SETTINGS, tls))
        await until(lambda: not any(thing() for thing in things), "both are freed")
