"""One call that comes to the phone, from its INVITE to its record (RFC 3261 sections 9, 13, 15)."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable

from msgspec.structs import replace

from loadtest.call_in_progress import CallInProgress
from loadtest.callee_plan import CalleePlan
from loadtest.phone_call import ALLOW, SDP_TYPE, media_address
from loadtest.phone_media import PhoneMedia
from loadtest.phone_plan import CallRecord
from loadtest.sdp import answer_sdp, parse_sdp
from loadtest.sip_dialog import dialog_of_callee
from loadtest.sip_line import SipLine
from loadtest.sip_message import Request, Response, SipError, response_to, uri_parts


class TakenCall(CallInProgress):
    """A call in progress that somebody else began. `record` is the task that gives its record.

    `number` is what was called: the user part of the INVITE's URI.
    """

    def __init__(
        self,
        invite: Request,
        plan: CalleePlan,
        line: SipLine,
        media: PhoneMedia,
        on_end: Callable[[TakenCall], None],
    ) -> None:
        offer = parse_sdp(invite.body)
        super().__init__(invite.call_id, media, keep_packets=True)
        self.number, _, _ = uri_parts(invite.uri)
        self.invite = invite
        self.tag = secrets.token_hex(6)
        self._plan, self._line, self._on_end = plan, line, on_end
        self._leg.connect(media_address(offer), offer.event_type)
        host, port = line.address
        self._contact = ("Contact", f"<sip:{self.number}@{host}:{port}>")
        self._sdp = answer_sdp(offer, host, self._leg.port, secrets.randbits(31))
        _, peer, peer_port = uri_parts(dialog_of_callee(invite, self._response(200)).target)
        self._peer = (peer, peer_port)
        self.record = asyncio.create_task(self._run(), name=f"taken call {self.call_id}")
        self.record.add_done_callback(self._close)

    def hang_up(self) -> None:
        """End the call: BYE if it is answered, else a refusal. The record follows."""
        self._end("callee")

    def press(self, digit: str) -> None:
        """Press a key now. ValueError for anything but 0-9, *, #, A-D."""
        self._leg.mouth.press(digit)

    def ringing(self) -> Response:
        """The first response to the INVITE."""
        return self._response(180)

    def answer(self, request: Request) -> Response:
        """The response to a BYE, CANCEL or re-INVITE of the far end."""
        if request.method in ("BYE", "CANCEL"):
            self._end("caller")
            return response_to(request, 200)
        try:
            offer = parse_sdp(request.body) if request.body else None
        except SipError:
            return response_to(request, 488)
        if offer is not None:
            self._leg.connect(media_address(offer), offer.event_type)
            answer = answer_sdp(offer, self._sdp.host, self._sdp.port, self._sdp.session_id)
            self._sdp = replace(answer, version=self._sdp.version + 1)
        headers = (self._contact, ALLOW, SDP_TYPE)
        return response_to(request, 200, headers=headers, body=self._sdp.encode())

    async def _run(self) -> CallRecord:
        plan = self._plan
        ringing_s = plan.ring_seconds if plan.status is not None else None
        await asyncio.wait({self._ended}, timeout=ringing_s)
        if self._ended.done():
            status = 487 if self._ended.result() == "caller" else 603
        else:
            status = plan.status or 200
        self._line.send(self._response(status), self._peer)
        if status >= 300:
            self._end("callee")
            return self._record("canceled" if status == 487 else "refused", status)
        self._answered.set_result(time.monotonic())
        self._leg.mouth.play(plan.audio, plan.audio_loop)
        self._leg.start()
        await asyncio.wait({self._ended}, timeout=plan.seconds)
        self._end("callee")
        self._leg.stop()
        if self._ended.result() == "callee":
            await self._say_bye()
        return self._record("answered", status)

    async def _say_bye(self) -> None:
        dialog = dialog_of_callee(self.invite, self._response(200))
        bye = dialog.request("BYE", 1, self._line.new_via())
        with self._line.begin(bye, self._peer) as exchange:
            await exchange.first()

    def _response(self, status: int) -> Response:
        taken = status == 200
        headers = (self._contact, ALLOW) if status < 300 else (ALLOW,)
        body = self._sdp.encode() if taken else b""
        return response_to(self.invite, status, to_tag=self.tag, headers=headers, body=body)

    def _close(self, _: asyncio.Task[CallRecord]) -> None:
        self._media.close_leg(self._leg)
        self._on_end(self)
