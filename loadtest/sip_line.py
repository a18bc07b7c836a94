"""A UDP socket that speaks SIP: matching of responses and retransmission (RFC 3261 section 17).

`SipLine` is the socket, `Exchange` one request of ours with the responses to it. What a request or
a response means for a call is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from loadtest.sip_message import Request, Response, SipError, parse, received_from

Address = tuple[str, int]
Answerer = Callable[[Request], Response | None]
K = TypeVar("K")
V = TypeVar("V")

BRANCH_COOKIE = "z9hG4bK"  # RFC 3261 section 8.1.1.7
T1_SECONDS = 0.5  # section 17.1.1.1: the round trip assumed
T2_IN_T1 = 8  # the longest interval between two sendings, except of INVITE
GIVE_UP_IN_T1 = 64  # timers B and F
# Answers and ACKs kept for retransmissions: far more than 64 * T1 of busy traffic.
REMEMBERED = 4096
# A burst of calls must not overflow the socket while Python is busy with one of them.
SOCKET_BUFFER_BYTES = 1 << 20


class SipLine(asyncio.DatagramProtocol):
    """Signalling of all calls on one address. `open` it, `close` it.

    `answerer` gets each new request and returns the response to it, None for an ACK. `malformed`
    counts the datagrams that were no SIP.
    """

    def __init__(self, address: Address, t1_seconds: float, answerer: Answerer) -> None:
        self.address = address
        self.t1_seconds = t1_seconds
        self.malformed = 0
        self._answerer = answerer
        self._exchanges: dict[tuple[str | None, str], Exchange] = {}
        self._acks: OrderedDict[str | None, tuple[Request, Address]] = OrderedDict()
        self._answers: OrderedDict[tuple[str | None, str], Response] = OrderedDict()
        self._transport: asyncio.DatagramTransport | None = None
        self._closed = asyncio.Event()

    @classmethod
    async def open(cls, host: str, port: int, t1_seconds: float, answerer: Answerer) -> SipLine:
        """Bind the socket (port 0: any free one). OSError when that is not possible."""
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.setblocking(False)
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
            udp.bind((host, port))
            line = cls((host, udp.getsockname()[1]), t1_seconds, answerer)
            loop = asyncio.get_running_loop()
            line._transport, _ = await loop.create_datagram_endpoint(lambda: line, sock=udp)
        except BaseException:
            udp.close()
            raise
        return line

    async def close(self) -> None:
        """Close the socket; calls must have ended before."""
        if self._transport is not None:
            self._transport.close()
            await self._closed.wait()

    def new_via(self) -> str:
        """A Via with a branch of its own, for a new transaction; it asks for rport (RFC 3581)."""
        host, port = self.address
        branch = BRANCH_COOKIE + secrets.token_hex(8)
        return f"SIP/2.0/UDP {host}:{port};branch={branch};rport"

    def send(self, message: Request | Response, to: Address) -> None:
        """Send once."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(message.encode(), to)

    def acknowledge(self, response: Response, ack: Request, to: Address) -> None:
        """Send the ACK of a final response to an INVITE, again whenever that response comes again.

        Sections 13.2.2.4 and 17.1.1.2: the other side repeats its response until it has the ACK.
        """
        _remember(self._acks, response.branch, (ack, to))
        self.send(ack, to)

    @contextmanager
    def begin(self, request: Request, to: Address) -> Iterator[Exchange]:
        """A transaction of ours, open for responses within the block; its `first` sends."""
        key = (request.branch, request.method)
        exchange = self._exchanges[key] = Exchange(self, request, to)
        try:
            yield exchange
        finally:
            del self._exchanges[key]

    def connection_lost(self, error: Exception | None) -> None:
        self._closed.set()

    def datagram_received(self, data: bytes, source: Address) -> None:
        try:
            message = parse(data)
        except SipError:
            self.malformed += 1
            return
        if isinstance(message, Request):
            self._answer(received_from(message, *source[:2]), source)
        else:
            self._take_response(message)

    def _answer(self, request: Request, source: Address) -> None:
        key = (request.branch, request.method)
        response = self._answers.get(key) or self._answerer(request)
        if response is not None:
            _remember(self._answers, key, response)
            self.send(response, source)

    def _take_response(self, response: Response) -> None:
        method = response.cseq[1]
        if method == "INVITE" and response.status >= 200 and response.branch in self._acks:
            self.send(*self._acks[response.branch])
            return
        exchange = self._exchanges.get((response.branch, method))
        if exchange is not None:
            exchange.responses.put_nowait(response)


class Exchange:
    """One request of ours and the responses to it, in order."""

    def __init__(self, line: SipLine, request: Request, to: Address) -> None:
        self.request = request
        self.responses: asyncio.Queue[Response] = asyncio.Queue()
        self._line, self._to = line, to

    async def first(self) -> Response | None:
        """Send until a response comes; None when none came within 64 * T1 (timers B and F).

        The interval begins at T1 and doubles; for all methods but INVITE it stays at T2 then.
        """
        t1 = self._line.t1_seconds
        longest = t1 * (GIVE_UP_IN_T1 if self.request.method == "INVITE" else T2_IN_T1)
        give_up_at = asyncio.get_running_loop().time() + GIVE_UP_IN_T1 * t1
        interval = t1
        while True:
            left = give_up_at - asyncio.get_running_loop().time()
            if left <= 0:
                return None
            self._line.send(self.request, self._to)
            response = await self.next(min(interval, left))
            if response is not None:
                return response
            interval = min(2 * interval, longest)

    async def next(
        self, seconds: float, unless: asyncio.Future[Any] | None = None
    ) -> Response | None:
        """The next response; None when `seconds` are over or `unless` is done."""
        getting = asyncio.ensure_future(self.responses.get())
        awaited = {getting} if unless is None else {getting, unless}
        try:
            await asyncio.wait(
                awaited, timeout=max(0, seconds), return_when=asyncio.FIRST_COMPLETED
            )
            return getting.result() if getting.done() else None
        finally:
            getting.cancel()

    async def final(self, seconds: float) -> Response | None:
        """The next response of 200 or more; None when none came within `seconds`."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + seconds
        response = await self.next(seconds)
        while response is not None and response.status < 200:
            response = await self.next(give_up_at - loop.time())
        return response


def _remember(memory: OrderedDict[K, V], key: K, value: V) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > REMEMBERED:
        memory.popitem(last=False)
