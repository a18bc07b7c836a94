"""A small answering side for the phone's tests: what it does is chosen by the user in the URI."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from loadtest.phone_plan import CallPlan, CallRecord
from loadtest.phone_rtp import parse_rtp
from loadtest.recording import ReceivedPacket
from loadtest.sdp import Sdp, answer_sdp, parse_sdp
from loadtest.sip_dialog import Dialog, dialog_of_callee
from loadtest.sip_message import (
    Headers,
    Request,
    Response,
    parse,
    received_from,
    response_to,
    uri_parts,
)
from loadtest.sip_phone import SipPhone

Address = tuple[str, int]
FAST_T1_SECONDS = 0.01
HOST = "127.0.0.1"


async def until(condition: Callable[[], object], what: str, seconds: float = 5.0) -> None:
    """Poll until the condition holds; AssertionError that names it when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.005)


class EchoPort(asyncio.DatagramProtocol):
    """An RTP port that sends every packet back and keeps it."""

    def __init__(self) -> None:
        self.packets: list[ReceivedPacket] = []
        self.source: Address | None = None
        self.transport: asyncio.DatagramTransport

    def datagram_received(self, data: bytes, source: Address) -> None:
        packet = parse_rtp(data, 0)
        assert packet is not None
        self.packets.append(packet)
        self.source = source
        self.transport.sendto(data, source)

    @property
    def address(self) -> Address:
        """Where it receives."""
        name: Address = self.transport.get_extra_info("sockname")[:2]
        return name


class FarEnd(asyncio.DatagramProtocol):
    """Answers on a port of its own; an async context manager.

    Users in the URI: `echo` answers and echoes, `busy` refuses, `ring` rings until CANCEL, `race`
    answers just when it is cancelled, `mute` never says a word, `deaf` ignores the first INVITE,
    `early` rings with SDP, `plain` answers without telephone-event, `empty` without SDP,
    `astray` with an address that no RTP can be sent to.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.responses: list[Response] = []
        self.rtp: dict[str, EchoPort] = {}
        self.dialogs: dict[str, Dialog] = {}
        self.accepted: dict[str, Response] = {}
        self.phone: Address = ("", 0)
        self._invites: dict[str, Request] = {}
        self._answers: list[asyncio.Task[None]] = []
        self._transport: asyncio.DatagramTransport
        self._address: Address

    async def __aenter__(self) -> FarEnd:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=(HOST, 0), family=socket.AF_INET
        )
        self._address = self._transport.get_extra_info("sockname")[:2]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.gather(*self._answers)
        self._transport.close()
        for port in self.rtp.values():
            port.transport.close()
        await asyncio.sleep(0)  # the transports close in the loop's next turn

    def uri(self, user: str) -> str:
        """The SIP URI of one of its users."""
        return f"sip:{user}@{self._address[0]}:{self._address[1]}"

    def methods(self, call_id: str | None = None) -> list[str]:
        """What has come in, in order; of all calls or of one."""
        return [r.method for r in self.requests if call_id in (None, r.call_id)]

    def send(self, message: Request | Response) -> None:
        """Send to the phone that called last."""
        self._transport.sendto(message.encode(), self.phone)

    def send_bytes(self, data: bytes) -> None:
        """Send anything to the phone that called last."""
        self._transport.sendto(data, self.phone)

    def ask(self, call_id: str, method: str, cseq: int, sdp: Sdp | None = None) -> None:
        """Send a request within a call."""
        via = f"SIP/2.0/UDP {HOST}:{self._address[1]};branch=z9hG4bK{method}{cseq};rport"
        bare = self.dialogs[call_id].request(method, cseq, via, ("Contact", f"<{self.uri('x')}>"))
        body = sdp.encode() if sdp is not None else b""
        self.send(Request(method, bare.uri, headers=bare.headers, body=body))

    def response_of(self, method: str) -> Response | None:
        """The phone's latest response to a method."""
        found = [response for response in self.responses if response.cseq[1] == method]
        return found[-1] if found else None

    def datagram_received(self, data: bytes, source: Address) -> None:
        message = parse(data)
        self.phone = source
        if isinstance(message, Response):
            self.responses.append(message)
            return
        message = received_from(message, *source)
        self.requests.append(message)
        user = uri_parts(message.require("To").strip("<>").partition(">")[0])[0]
        match message.method:
            case "INVITE":
                self._invited(message, user)
            case "CANCEL":
                self._cancelled(message, user)
            case "BYE":
                self._reply(message, 200)

    def _reply(
        self, request: Request, status: int, headers: Headers = (), body: bytes = b""
    ) -> None:
        self.send(response_to(request, status, to_tag="far", headers=headers, body=body))

    def _invited(self, invite: Request, user: str) -> None:
        first = invite.call_id not in self._invites
        self._invites[invite.call_id] = invite
        if user == "mute" or (user == "deaf" and first):
            return
        self._reply(invite, 100)
        if user == "busy":
            self._reply(invite, 486)
        elif user in ("ring", "race"):
            self._reply(invite, 180)
        elif user == "empty":
            self._reply(invite, 200, (("Contact", f"<{self.uri('empty')}>"),))
        elif first or user == "deaf":
            self._answers.append(asyncio.create_task(self._answer(invite, user)))

    def _cancelled(self, cancel: Request, user: str) -> None:
        self._reply(cancel, 200)
        invite = self._invites[cancel.call_id]
        if user == "race":
            self._answers.append(asyncio.create_task(self._answer(invite, user)))
        else:
            self._reply(invite, 487)

    async def _answer(self, invite: Request, user: str) -> None:
        loop = asyncio.get_running_loop()
        transport, port = await loop.create_datagram_endpoint(EchoPort, local_addr=(HOST, 0))
        port.transport = transport
        self.rtp[invite.call_id] = port
        offer = parse_sdp(invite.body)
        sdp = answer_sdp(offer, *port.address)
        if user == "plain":
            sdp = Sdp(*port.address, payload_types=(0,), event_type=None)
        headers = (("Contact", f"<{self.uri(user)}>"), ("Record-Route", f"<{self.uri('p')};lr>"))
        if user == "astray":
            sdp = Sdp("255.255.255.255", 4000)
        if user == "early":
            self._reply(invite, 183, headers, sdp.encode())
            port.transport.sendto(b"\x80\x00" + bytes(10) + b"\x80" * 160, (offer.host, offer.port))
            return
        response = response_to(invite, 200, to_tag="far", headers=headers, body=sdp.encode())
        self.dialogs[invite.call_id] = dialog_of_callee(invite, response)
        self.accepted[invite.call_id] = response
        self.send(response)


async def one_call(user: str, **fields: Any) -> tuple[CallRecord, FarEnd]:
    """Call a user of a far end with a phone whose timers are short; return what both saw."""
    async with FarEnd() as far, SipPhone(t1_seconds=FAST_T1_SECONDS) as phone:
        record = await phone.call(CallPlan(to=far.uri(user), **fields))
        await until(lambda: record.status >= 300 or "ACK" in far.methods(), "the ACK")
    return record, far
