"""One call of the phone, from its INVITE to its record (RFC 3261 sections 9, 13, 14 and 15)."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address
from socket import AF_INET, SOCK_DGRAM, gaierror

from msgspec.structs import replace

from loadtest.call_in_progress import CallInProgress
from loadtest.phone_media import Address, PhoneMedia
from loadtest.phone_plan import CallPlan, CallRecord, Outcome
from loadtest.phone_rtp import telephone_event
from loadtest.sdp import Sdp, answer_sdp, parse_sdp
from loadtest.sip_dialog import Dialog, ack_of, cancel_of, dialog_of_caller
from loadtest.sip_line import GIVE_UP_IN_T1, SipLine
from loadtest.sip_message import Request, Response, SipError, response_to, uri_parts

PTIMES_PER_SECOND = 50
ALLOW = ("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS")
SDP_TYPE = ("Content-Type", "application/sdp")


class ActiveCall(CallInProgress):
    """A call in progress; `SipPhone.start` makes it. `record` is the task that gives its record.

    `record` raises SipError when the far end breaks the protocol or its name cannot be resolved,
    and OSError when no RTP can be sent to it.
    """

    def __init__(
        self,
        plan: CallPlan,
        line: SipLine,
        media: PhoneMedia,
        on_end: Callable[[ActiveCall], None],
    ) -> None:
        uri_parts(plan.to)
        for _, digit in plan.digits:
            telephone_event(digit)
        call_id = f"{secrets.token_hex(12)}@{line.address[0]}"
        super().__init__(call_id, media, keep_packets=plan.keep_packets)
        self.tag = secrets.token_hex(6)
        self._plan, self._line, self._on_end = plan, line, on_end
        self._sdp = Sdp(line.address[0], self._leg.port, session_id=secrets.randbits(31))
        self._contact = ("Contact", f"<sip:{plan.from_user}@{line.address[0]}:{line.address[1]}>")
        self._to: Address = ("", 0)
        self.record = asyncio.create_task(self._run(), name=f"call {self.call_id}")
        # No `finally` in the task: one that is canceled before its first step would not get there.
        self.record.add_done_callback(self._close)

    def hang_up(self) -> None:
        """End the call: BYE if it is answered, else CANCEL. The record follows."""
        self._end("caller")

    def press(self, digit: str) -> None:
        """Press a key now. ValueError for anything but 0-9, *, #, A-D; SipError as for a plan's."""
        self._check_events()
        self._leg.mouth.press(digit)

    def answer(self, request: Request) -> Response:
        """The response to a BYE or a re-INVITE of the far end."""
        if request.method == "BYE":
            self._end("callee")
            return response_to(request, 200)
        try:
            if request.body:
                self._renegotiate(parse_sdp(request.body))
        except SipError:
            return response_to(request, 488)
        headers = (self._contact, ALLOW, SDP_TYPE)
        return response_to(request, 200, headers=headers, body=self._sdp.encode())

    async def _run(self) -> CallRecord:
        self._to = await _resolve(self._plan.to)
        response, given_up = await self._ring()
        if response is None or response.status >= 300:
            outcome: Outcome = given_up or ("refused" if response else "timeout")
            return self._record(outcome, response.status if response else 408)
        await self._talk(self._dialog(response), None if given_up else response)
        return self._record(given_up or "answered", response.status)

    def _close(self, _: asyncio.Task[CallRecord]) -> None:
        self._media.close_leg(self._leg)
        self._on_end(self)

    async def _ring(self) -> tuple[Response | None, Outcome | None]:
        """Invite until there is a final response; also what the call came to if we gave up."""
        invite = self._invite()
        given_up: Outcome | None = None
        with self._line.begin(invite, self._to) as exchange:
            try:
                response = await exchange.first()
                while response is not None and response.status < 200:
                    self._take_media(response)  # early media is heard too
                    response = await exchange.next(self._patience_seconds(), unless=self._ended)
                    given_up = given_up if response else self._given_up()
                if given_up:
                    await self._transact(cancel_of(invite))
                    response = await exchange.final(GIVE_UP_IN_T1 * self._line.t1_seconds)
            except BaseException:
                self._line.send(cancel_of(invite), self._to)
                raise
        if response is not None and response.status >= 300:
            self._line.acknowledge(response, ack_of(invite, response), self._to)
        return response, given_up

    def _patience_seconds(self) -> float:
        limits = (self._plan.ring_seconds, self._plan.cancel_after)
        limit = min(seconds for seconds in limits if seconds is not None)
        return self._invited_at + limit - time.monotonic()

    def _given_up(self) -> Outcome:
        if self._ended.done():
            self._ended.result()  # raises if the phone itself broke
            return "canceled"
        after = self._plan.cancel_after
        return "timeout" if after is None or after > self._plan.ring_seconds else "canceled"

    def _dialog(self, response: Response) -> Dialog:
        """Acknowledge the answer: from here on there is a dialog."""
        dialog = dialog_of_caller(response)
        ack = dialog.request("ACK", response.cseq[0], self._line.new_via())
        self._line.acknowledge(response, ack, self._to)
        return dialog

    async def _talk(self, dialog: Dialog, answer: Response | None) -> None:
        """Talk until somebody hangs up; without an `answer` (it came too late) hang up at once."""
        bye = dialog.request("BYE", 2, self._line.new_via())
        try:
            if answer is not None:
                self._take_media(answer, required=True)
                self._say()
                await asyncio.wait({self._ended}, timeout=self._plan.seconds)
            self._end("caller")
            self._leg.stop()
            if self._ended.result() == "caller":
                await self._transact(bye)
        except BaseException:
            self._line.send(bye, self._to)
            raise

    def _say(self) -> None:
        self._answered.set_result(time.monotonic())
        for at_seconds, digit in self._plan.digits:
            self._check_events()
            self._leg.mouth.press(digit, round(at_seconds * PTIMES_PER_SECOND))
        self._leg.network = self._plan.network
        self._leg.mouth.play(self._plan.audio, self._plan.audio_loop)
        self._leg.start()

    def _check_events(self) -> None:
        if self._leg.mouth.event_type is None:
            raise SipError("the far end's SDP offers no telephone-event: no digits can be sent")

    def _take_media(self, response: Response, required: bool = False) -> None:
        if response.body or required:
            sdp = parse_sdp(response.body)
            self._leg.connect(media_address(sdp), sdp.event_type)

    def _renegotiate(self, offer: Sdp) -> None:
        """Take an offer made during the call; our address stays (RFC 3264 section 8)."""
        self._leg.connect(media_address(offer), offer.event_type)
        answer = answer_sdp(offer, self._sdp.host, self._sdp.port, self._sdp.session_id)
        answer = replace(answer, version=self._sdp.version)
        if answer != self._sdp:
            self._sdp = replace(answer, version=self._sdp.version + 1)
        if answer.direction in ("sendrecv", "sendonly"):
            self._leg.start()
        else:
            self._leg.stop()

    async def _transact(self, request: Request) -> None:
        with self._line.begin(request, self._to) as exchange:
            await exchange.first()

    def _invite(self) -> Request:
        host, port = self._line.address
        headers = (
            ("Via", self._line.new_via()),
            ("Max-Forwards", "70"),
            ("From", f"<sip:{self._plan.from_user}@{host}:{port}>;tag={self.tag}"),
            ("To", f"<{self._plan.to}>"),
            ("Call-ID", self.call_id),
            ("CSeq", "1 INVITE"),
            self._contact,
            ALLOW,
            SDP_TYPE,
        )
        return Request("INVITE", self._plan.to, headers=headers, body=self._sdp.encode())


def media_address(sdp: Sdp) -> Address:
    """Where the far end receives audio; SipError if that is no IPv4 address and port."""
    try:
        IPv4Address(sdp.host)
    except AddressValueError:
        raise SipError(f"SDP address {sdp.host!r} must be an IPv4 address") from None
    if sdp.port == 0:
        raise SipError("SDP port 0: the far end takes no audio")
    return sdp.host, sdp.port


async def _resolve(uri: str) -> Address:
    _, host, port = uri_parts(uri)
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, family=AF_INET, type=SOCK_DGRAM)
    except gaierror as error:
        raise SipError(f"host {host!r} of {uri!r} has no IPv4 address: {error}") from error
    return str(found[0][4][0]), port
