"""What the stand-in's tests hold in hand: an ARI client, a caller, an RTP peer; real sockets all.

They work on the stand-in and on a real Asterisk alike.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import aiohttp

from deploy.asterisk_config import AsteriskValues
from loadtest.sdp import Sdp, parse_sdp
from loadtest.sip_dialog import Dialog, ack_of, cancel_of, dialog_of_caller
from loadtest.sip_message import Request, Response, parse, response_to

PATIENCE_S = 5.0
VALUES = AsteriskValues(
    ari_user="tests",
    ari_pass="not-secret",
    http_port=0,
    sip_port=0,
    rtp_start=41000,
    rtp_end=42999,
    agent_wait_seconds=0,
)
RTP_HEADER = struct.Struct("!BBHII")
VIA_NUMBERS = itertools.count()

Address = tuple[str, int]
Event = dict[str, Any]


async def eventually(condition: Callable[[], bool]) -> None:
    """Poll until it holds; TimeoutError after a while."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


class Ari:
    """An ARI client, and its events in order."""

    def __init__(self, base: str, user: str, password: str) -> None:
        self.base = base
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        headers = {"Authorization": aiohttp.encode_basic_auth(user, password)}
        self.session = aiohttp.ClientSession(headers=headers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def call(self, method: str, path: str, **parameters: str) -> tuple[int, Any]:
        """A request's status and the JSON of its body, None if that is empty."""
        url = f"{self.base}{path}"
        async with self.session.request(method, url, params=parameters) as response:
            text = await response.text()
            return response.status, json.loads(text) if text else None

    @asynccontextmanager
    async def listening(self, app: str = "voice-agent") -> AsyncIterator[asyncio.Task[None]]:
        """An event connection; what it yields is done when that is closed."""
        url = f"{self.base}/ari/events"
        async with self.session.ws_connect(url, params={"app": app}) as socket_:

            async def read() -> None:
                async for message in socket_:
                    self.events.put_nowait(json.loads(message.data))

            reader = asyncio.create_task(read())
            try:
                yield reader
            finally:
                reader.cancel()

    async def event(self, *kinds: str) -> Event:
        """The next event of one of these types; others before it are thrown away."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                event = await self.events.get()
                if event["type"] in kinds:
                    return event

    async def external_media(self, channel_id: str, peer: Address) -> Address:
        """Make an external media channel; where its RTP goes."""
        status, body = await self.call(
            "POST",
            "/ari/channels/externalMedia",
            channelId=channel_id,
            app="voice-agent",
            external_host=f"{peer[0]}:{peer[1]}",
            format="ulaw",
        )
        assert status == 200, body
        variables = body["channelvars"]
        return variables["UNICASTRTP_LOCAL_ADDRESS"], int(variables["UNICASTRTP_LOCAL_PORT"])


class Udp:
    """A UDP socket of a test."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind(("127.0.0.1", 0))
        self.address: Address = self.socket.getsockname()

    def send(self, datagram: bytes, to: Address) -> None:
        self.socket.sendto(datagram, to)

    async def receive(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await asyncio.get_running_loop().sock_recv(self.socket, 4096)

    def send_rtp(
        self, to: Address, sequence: int, payload: bytes = b"\x7e" * 160, kind: int = 0
    ) -> bytes:
        """Send one RTP packet with a timestamp that fits its number; returns the datagram."""
        packet = RTP_HEADER.pack(0x80, kind, sequence, sequence * 160, 0xC0FFEE) + payload
        self.send(packet, to)
        return packet


class Caller:
    """A bare SIP phone: it sends what a test tells it to, once, and shows what comes."""

    def __init__(self, to: Address) -> None:
        self.sip = Udp()
        self.rtp = Udp()
        self.to = to
        self.call_id = secrets.token_hex(8)
        self.invite = self._invite()
        self.dialog: Dialog | None = None
        self.media: Address = ("", 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sip.socket.close()
        self.rtp.socket.close()

    def send(self, message: Request | Response) -> None:
        self.sip.send(message.encode(), self.to)

    async def message(self) -> Request | Response:
        return parse(await self.sip.receive())

    async def response(self, method: str) -> Response:
        """The next final response to a request of this method; others are thrown away."""
        while True:
            message = await self.message()
            if not isinstance(message, Response) or message.cseq[1] != method:
                continue
            if message.status >= 200:
                return message

    async def request(self, method: str) -> Request:
        """The next request of this method, answered with 200; others are thrown away."""
        while True:
            message = await self.message()
            if isinstance(message, Request) and message.method == method:
                self.send(response_to(message, 200))
                return message

    async def call(self) -> Sdp:
        """INVITE, 200, ACK: a call that is up."""
        self.send(self.invite)
        response = await self.response("INVITE")
        assert response.status == 200
        self.dialog = dialog_of_caller(response)
        self.send(self.in_dialog("ACK", 1))
        answer = parse_sdp(response.body)
        self.media = (answer.host, answer.port)
        return answer

    def in_dialog(self, method: str, cseq: int = 2) -> Request:
        assert self.dialog is not None, "no call is up"
        return self.dialog.request(method, cseq, self._via(), ("Contact", self._contact()))

    def acknowledge(self, refusal: Response) -> None:
        self.send(ack_of(self.invite, refusal))

    def cancel(self) -> None:
        self.send(cancel_of(self.invite))

    async def hang_up(self) -> None:
        self.send(self.in_dialog("BYE"))
        assert (await self.response("BYE")).status == 200

    def outside(self, method: str) -> Request:
        """A request outside of any dialog."""
        uri = f"sip:+15551234567@{self.to[0]}:{self.to[1]}"
        headers = (
            ("Via", self._via()),
            ("Max-Forwards", "70"),
            ("From", '"A Tester" <sip:+15550100@127.0.0.1>;tag=caller'),
            ("To", f"<{uri}>"),
            ("Call-ID", self.call_id),
            ("CSeq", f"1 {method}"),
            ("Contact", self._contact()),
        )
        return Request(method, uri, headers=headers)

    def _invite(self) -> Request:
        bare = self.outside("INVITE")
        headers = (*bare.headers, ("Content-Type", "application/sdp"))
        body = Sdp(*self.rtp.address).encode()
        return Request("INVITE", bare.uri, headers=headers, body=body)

    def _via(self) -> str:
        host, port = self.sip.address
        return f"SIP/2.0/UDP {host}:{port};branch=z9hG4bK{next(VIA_NUMBERS)}-{self.call_id};rport"

    def _contact(self) -> str:
        return "<sip:+15550100@{}:{}>".format(*self.sip.address)
