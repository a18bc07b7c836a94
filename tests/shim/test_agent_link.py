"""One WebSocket to a voice server, in this process: handshake, pings and back-pressure."""

import asyncio

import msgspec
import pytest
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from shim import link_opener
from tests.shim.link_owner import SETTINGS, Owner, accept, open_link
from tests.shim.polling import until
from tests.shim.raw_server import (
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    RawConnection,
    RawServer,
    close_frame,
    ws_frame,
)


async def test_handshake_is_twilios() -> None:
    """No Origin, subprotocol or extension; a User-Agent of our own; no token that isn't set."""
    async with RawServer(accept) as server:
        owner = Owner()
        link = await open_link(server.url, owner)
        assert owner.opened == [link]
        lines = server.connections[0].request.decode().lower().split("\r\n")
        assert lines[0] == "get /media http/1.1"
        names = {line.split(":")[0] for line in lines[1:] if line}
        assert "user-agent: open-telephony-stack" in lines
        forbidden = {"origin", "sec-websocket-protocol", "sec-websocket-extensions"}
        assert not names & (forbidden | {"authorization", "x-twilio-signature"})


async def test_handshake_is_signed() -> None:
    """Twilio's own validator accepts the signature; a bearer token goes along."""
    token = "12345678901234567890123456789012"
    settings = msgspec.structs.replace(SETTINGS, auth_token=token, bearer_token="open")
    async with RawServer(accept) as server:
        url = f"{server.url}?tenant=blue&x=1"
        await open_link(url, Owner(), settings)
        lines = server.connections[0].request.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        signature = {name.lower(): value for name, value in headers.items()}["x-twilio-signature"]
        assert RequestValidator(token).validate(url, {}, signature)
        assert not RequestValidator(token).validate(server.url, {}, signature)
        assert headers["Authorization"] == "Bearer open"


async def test_messages_whole_and_in_fragments() -> None:
    """Text arrives as one message whatever its frames were; binary ones are only counted."""

    async def send(connection: RawConnection) -> None:
        await connection.accept()
        await connection.send(ws_frame(TEXT, b"one") + ws_frame(TEXT, b"t", fin=False))
        await connection.send(ws_frame(PING, b"?") + ws_frame(CONTINUATION, b"", fin=False))
        await connection.send(ws_frame(CONTINUATION, b"wo") + ws_frame(2, b"\x00"))
        await connection.send(ws_frame(TEXT, b"") + ws_frame(TEXT, b"three" * 20_000))

    async with RawServer(send) as server:
        owner = Owner()
        await open_link(server.url, owner)
        await until(lambda: len(owner.texts) == 4, "four messages")
        assert owner.texts == [b"one", b"two", b"", b"three" * 20_000]
        assert owner.binaries == 1


def quick_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent peer is given up after 0.3 s instead of 10 s."""
    monkeypatch.setattr(link_opener, "PING_IDLE_S", 0.15)
    monkeypatch.setattr(link_opener, "PING_REPLY_S", 0.15)


async def test_half_open_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 36: a peer that answers no ping is given up, also when it takes nothing any more."""
    quick_pings(monkeypatch)

    async def freeze(connection: RawConnection) -> None:
        await connection.accept()
        connection.stop_reading()

    async with RawServer(freeze, 4096) as server:
        owner = Owner()
        link = await open_link(server.url, owner)
        for _ in range(2000):
            link.send(b"x" * 300)
        assert not link.writable
        await until(lambda: owner.closed, "the end of the connection")
        [(code, _)] = owner.closed
        assert code is None


async def test_ping_is_answered_and_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 36: a live but silent peer is kept: its pongs count."""
    quick_pings(monkeypatch)
    pings = 0

    async def answer(connection: RawConnection) -> None:
        nonlocal pings
        await connection.accept()
        while True:
            first, second = await connection.reader.readexactly(2)
            mask = await connection.reader.readexactly(4)
            data = await connection.reader.readexactly(second & 0x7F)
            assert first == 0x80 | PING
            pings += 1
            await connection.send(
                ws_frame(10, bytes(byte ^ mask[i % 4] for i, byte in enumerate(data)))
            )

    async with RawServer(answer) as server:
        owner = Owner()
        await open_link(server.url, owner)
        await until(lambda: pings >= 4, "four pings")
        assert owner.closed == []


async def test_paused_reading_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 35: a link that we don't read ourselves is not given up for its unread pongs."""
    quick_pings(monkeypatch)
    paused_for_s = 0.8

    async def talk(connection: RawConnection) -> None:
        await connection.accept()
        await connection.send(ws_frame(TEXT, b"before"))
        await paused.wait()
        await connection.send(ws_frame(TEXT, b"after"))
        await connection.read_frames()

    paused = asyncio.Event()
    async with RawServer(talk) as server:
        owner = Owner()
        link = await open_link(server.url, owner)
        await until(lambda: owner.texts, "the first message")
        link.pause_reading()
        paused.set()
        deadline = asyncio.get_running_loop().time() + paused_for_s
        await until(lambda: asyncio.get_running_loop().time() > deadline, "the pause's end")
        assert owner.closed == []
        assert owner.texts == [b"before"]
        link.resume_reading()
        await until(lambda: len(owner.texts) == 2, "the second message")
        assert owner.texts == [b"before", b"after"]


async def test_close_waits_for_the_answer() -> None:
    """The last message, then a close frame; the owner hears nothing more; the link is gone."""
    frames: list[tuple[int, bytes]] = []

    async def read_all(connection: RawConnection) -> None:
        await connection.accept()
        frames.extend(await connection.read_frames(until=CLOSE))
        await connection.send(close_frame(1000))

    async with RawServer(read_all) as server:
        owner = Owner()
        link = await open_link(server.url, owner)
        link.close(b"last")
        await asyncio.wait_for(link.wait_closed(), 5)
        await until(lambda: frames, "the frames")
        assert frames == [(TEXT, b"last"), (CLOSE, (1000).to_bytes(2, "big"))]
        assert owner.closed == []
        link.send(b"too late")
