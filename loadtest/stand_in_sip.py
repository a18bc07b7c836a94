"""The stand-in's SIP side: a small answering user agent on UDP (RFC 3261).

One socket for all callers. It takes INVITEs that offer PCMU; what a caller's dialog then does is
in `stand_in_sip_call`.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import time
from collections import OrderedDict
from functools import partial
from ipaddress import IPv4Address

from deploy.asterisk_config import AsteriskValues
from loadtest.sdp import Sdp, parse_sdp
from loadtest.sip_message import (
    Headers,
    Request,
    Response,
    SipError,
    parse,
    received_from,
    response_to,
)
from loadtest.stand_in_calls import Exchange
from loadtest.stand_in_faults import FaultPlan
from loadtest.stand_in_rtp import Address, Leg, RtpPorts
from loadtest.stand_in_sip_call import SipCall, Surroundings, called_number

ALLOW: Headers = (("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS"),)
EXTENSION = re.compile(r"[+0-9A-Za-z].+")  # what the deployed dialplan takes
# Answers are kept for requests that come again (RFC 3261 section 17.2). So many requests are far
# more than arrive within the 32 s in which that can happen.
KEPT_ANSWERS = 4096

CallKey = tuple[str, str | None]  # Call-ID and the caller's tag


class SipSide(asyncio.DatagramProtocol):
    """Takes calls into the exchange; `open` binds it, `close` ends all calls at once."""

    def __init__(
        self, exchange: Exchange, ports: RtpPorts, plan: FaultPlan, values: AsteriskValues
    ) -> None:
        self.calls: dict[CallKey, SipCall] = {}
        self.malformed = 0
        self._exchange = exchange
        self._ports = ports
        self._plan = plan
        self._values = values
        self._numbers = itertools.count()
        self._answers: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._transport: asyncio.DatagramTransport | None = None
        self.address: Address = ("", 0)

    async def open(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(host, port))
        self._transport = transport
        self.address = transport.get_extra_info("sockname")

    def close(self) -> None:
        for call in self.calls.values():
            call.close()
        self.calls.clear()
        if self._transport is not None:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: Address) -> None:
        try:
            message = parse(data)
            if isinstance(message, Response):
                self._take_response(message)
            else:
                self._take_request(received_from(message, *addr), addr)
        except SipError:  # counted; an answer would need the headers that are wrong
            self.malformed += 1

    def _take_response(self, response: Response) -> None:
        """Our only requests are BYEs, in which From and To are swapped."""
        call = self.calls.get((response.call_id, response.to_tag))
        if call is not None and response.cseq[1] == "BYE" and response.status >= 200:
            call.bye_answered()

    def _take_request(self, request: Request, source: Address) -> None:
        call = self.calls.get((request.call_id, request.from_tag))
        if request.method == "ACK":
            if call is not None:
                call.acknowledged()
            return
        kept = self._answers.get((request.branch or "", request.method))
        if kept is not None:
            self._send(source, kept)
        elif request.method == "INVITE":
            self._take_invite(request, source, call)
        elif request.method in ("BYE", "CANCEL"):
            self._answer(request, source, 200 if call else 481)
            if call is not None:
                call.far_end_hung_up() if request.method == "BYE" else call.cancelled()
        else:
            self._answer(request, source, 200 if request.method == "OPTIONS" else 501)

    def _take_invite(self, invite: Request, source: Address, call: SipCall | None) -> None:
        invite.require("Contact")
        if call is not None:
            call.reinvited(invite)
        elif invite.to_tag is not None:
            self._answer(invite, source, 481)
        elif not EXTENSION.fullmatch(called_number(invite)):
            self._answer(invite, source, 404)
        else:
            self._take_call(invite, source)

    def _take_call(self, invite: Request, source: Address) -> None:
        try:
            offer = parse_sdp(invite.body)
            peer = (str(IPv4Address(offer.host)), offer.port)
        except ValueError:  # a SipError, or a host that is a name or of IPv6
            self._answer(invite, source, 488)
            return
        try:
            leg = Leg(self._ports, peer, latch=True, event_type=offer.event_type)
        except OSError:  # no RTP port is left, or no file descriptor
            self._answer(invite, source, 503)
            return
        self._answer(invite, source, 100)
        self._begin(invite, source, offer, leg)

    def _begin(self, invite: Request, source: Address, offer: Sdp, leg: Leg) -> None:
        key = (invite.call_id, invite.from_tag)
        around = Surroundings(
            exchange=self._exchange,
            app=self._values.ari_app,
            tries=self._values.agent_wait_tries,
            contact=f"sip:{self.address[0]}:{self.address[1]}",
            send=partial(self._send, source),
            forget=partial(self._forget, key),
        )
        channel_id = f"{int(time.time())}.{next(self._numbers)}"
        call = SipCall(invite, offer, leg, channel_id, around)
        self.calls[key] = call
        call.begin(self._plan.faults.ring_ms)

    def _forget(self, key: CallKey) -> None:
        self.calls.pop(key, None)

    def _answer(self, request: Request, source: Address, status: int) -> None:
        """Answer, and again in the same words should the request come again."""
        tag = secrets.token_hex(8)
        datagram = response_to(request, status, to_tag=tag, headers=ALLOW).encode()
        self._answers[request.branch or "", request.method] = datagram
        if len(self._answers) > KEPT_ANSWERS:
            self._answers.popitem(last=False)
        self._send(source, datagram)

    def _send(self, to: Address, datagram: bytes) -> None:
        if self._transport is not None:
            self._transport.sendto(datagram, to)
