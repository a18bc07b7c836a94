"""One call that comes to the phone, from its INVITE to its record (RFC 3261 sections 9, 13, 15)."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from loadtest.callee_plan import CalleePlan
from loadtest.phone_call import ALLOW, SDP_TYPE, media_address
from loadtest.phone_media import PhoneMedia
from loadtest.phone_plan import CallRecord, Outcome, Party
from loadtest.recording import ReceivedPacket
from loadtest.sdp import answer_sdp, parse_sdp
from loadtest.sip_dialog import dialog_of_callee
from loadtest.sip_line import SipLine
from loadtest.sip_message import Request, Response, SipError, response_to, uri_parts


class TakenCall:
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
        self.call_id = invite.call_id
        self.number, _, _ = uri_parts(invite.uri)
        self.invite = invite
        self.tag = secrets.token_hex(6)
        self._plan, self._line, self._media, self._on_end = plan, line, media, on_end
        offer = parse_sdp(invite.body)
        self._leg = media.open_leg(True, on_error=self.fail)
        self._leg.connect(media_address(offer), offer.event_type)
        host, port = line.address
        self._contact = ("Contact", f"<sip:{self.number}@{host}:{port}>")
        self._sdp = answer_sdp(offer, host, self._leg.port, secrets.randbits(31))
        _, peer, peer_port = uri_parts(dialog_of_callee(invite, self._response(200)).target)
        self._peer = (peer, peer_port)
        self._invited_at = time.monotonic()
        self._answered: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._ended: asyncio.Future[Party] = asyncio.get_running_loop().create_future()
        self.record = asyncio.create_task(self._run(), name=f"taken call {self.call_id}")
        self.record.add_done_callback(self._close)

    async def answered(self) -> bool:
        """Wait for the answer; False when the call ended without one."""
        either: list[asyncio.Future[Any]] = [self._answered, self.record]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return self._answered.done()

    def hang_up(self) -> None:
        """End the call: BYE if it is answered, else a refusal. The record follows."""
        self._end("callee")

    def play(self, audio: bytes, loop: bool = False) -> None:
        """Say this µ-law audio from the next 20 ms on, in place of what is being said."""
        self._leg.mouth.play(audio, loop)

    def press(self, digit: str) -> None:
        """Press a key now. ValueError for anything but 0-9, *, #, A-D."""
        self._leg.mouth.press(digit)

    def heard_since(self, at_ns: int) -> list[ReceivedPacket]:
        """The packets that have arrived at or after a time (of `time.monotonic_ns()`)."""
        return self._leg.ear.heard_since(at_ns)

    def fail(self, error: BaseException) -> None:
        """End the call because its audio or the phone broke: `record` raises this error."""
        if not self._ended.done():
            self._ended.set_exception(error)

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

    def _end(self, party: Party) -> None:
        if not self._ended.done():
            self._ended.set_result(party)

    def _close(self, _: asyncio.Task[CallRecord]) -> None:
        self._media.close_leg(self._leg)
        self._on_end(self)

    def _record(self, outcome: Outcome, status: int) -> CallRecord:
        leg = self._leg
        self._media.close_leg(leg)
        return CallRecord(
            outcome=outcome,
            status=status,
            call_id=self.call_id,
            invited_at=self._invited_at,
            answered_at=self._answered.result() if self._answered.done() else None,
            ended_at=time.monotonic(),
            ended_by=self._ended.result() if self._answered.done() else None,
            packets=leg.ear.packets,
            received_packets=leg.ear.received,
            longest_gap_ms=leg.ear.longest_gap_ns / 1e6,
            stray=leg.ear.stray,
            sent_packets=leg.sent_packets,
            first_sent_ns=leg.first_sent_ns,
            sent_audio=bytes(leg.mouth.said),
            send_late_max_ms=leg.send_late_max_ns / 1e6,
        )
