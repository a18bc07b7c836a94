"""A SIP phone for tests, the demo and load tests: one signalling socket, many calls at once.

    async with SipPhone() as phone:
        record = await phone.call(CallPlan(to="sip:100@127.0.0.1:5060", seconds=10.0))

It takes calls too, if it gets a `CalleePlan`; they come out of `taken`. It registers nowhere and
knows no passwords: a test's Asterisk knows it by its address. It runs on asyncio's own loop and on
uvloop.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from loadtest.callee_plan import CalleePlan
from loadtest.phone_call import ALLOW, ActiveCall
from loadtest.phone_media import PhoneMedia
from loadtest.phone_plan import CallPlan, CallRecord
from loadtest.sip_line import T1_SECONDS, SipLine
from loadtest.sip_message import Request, Response, SipError, response_to
from loadtest.taken_call import TakenCall

__all__ = ["ActiveCall", "CallPlan", "CallRecord", "CalleePlan", "SipPhone", "TakenCall"]

# Known to RFC 3261 and its extensions, so refused with 405; a method nobody knows gets 501.
REFUSED_METHODS = frozenset(
    {"REGISTER", "PRACK", "UPDATE", "INFO", "SUBSCRIBE", "NOTIFY", "REFER", "MESSAGE", "PUBLISH"}
)
# How long leaving the phone waits for its calls to end with a BYE.
CLOSING_SECONDS = 2.0


class SipPhone:
    """Async context manager; leaving it hangs up what is still up.

    `host` is the IPv4 address for signalling and audio, as SDP and Contact show it; `port` that of
    the signalling, 0 for any free one. `t1_seconds` is RFC 3261's T1: a call that nobody reacts to
    at all ends after 64 times that. `callee` says what to do with calls that come in; without it
    they are answered with 480. `taken` has those calls, in order.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        t1_seconds: float = T1_SECONDS,
        callee: CalleePlan | None = None,
    ) -> None:
        self._host, self._port, self._t1_seconds = host, port, t1_seconds
        self.callee = callee
        self.taken: asyncio.Queue[TakenCall] = asyncio.Queue()
        self._calls: dict[str, ActiveCall | TakenCall] = {}
        self._media = PhoneMedia(host)
        self._line: SipLine | None = None

    async def __aenter__(self) -> SipPhone:
        self._line = await SipLine.open(self._host, self._port, self._t1_seconds, self._answer)
        await self._media.__aenter__()
        self._media.pacer.add_done_callback(self._media_ended)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        records = {call.record for call in self._calls.values()}
        for call in self._calls.values():
            call.hang_up()
        if records:
            _, late = await asyncio.wait(records, timeout=CLOSING_SECONDS)
            for record in late:
                record.cancel()
            await asyncio.wait(records)
        await self._media.__aexit__(kind, error, traceback)
        await self._open_line.close()
        self._line = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the signalling socket."""
        return self._open_line.address

    @property
    def malformed(self) -> int:
        """How many datagrams came in on the signalling socket that were no SIP."""
        return self._open_line.malformed

    async def call(self, plan: CallPlan) -> CallRecord:
        """Make a call and wait for its end. Errors are those of `start` and `ActiveCall.record`."""
        return await self.start(plan).record

    def start(self, plan: CallPlan) -> ActiveCall:
        """Begin a call: the INVITE goes out at once.

        SipError for a bad URI, ValueError for a bad digit, OSError when no RTP port can be bound.
        """
        call = ActiveCall(plan, self._open_line, self._media, self._forget)
        self._calls[call.call_id] = call
        return call

    @property
    def _open_line(self) -> SipLine:
        if self._line is None:
            raise RuntimeError(
                "the phone is closed: use it within `async with SipPhone() as phone`"
            )
        return self._line

    def _forget(self, call: ActiveCall | TakenCall) -> None:
        del self._calls[call.call_id]

    def _media_ended(self, pacer: asyncio.Task[None]) -> None:
        """Without a pacer there is no audio: every call ends with what stopped it."""
        if pacer.cancelled():
            return
        error = pacer.exception() or RuntimeError("the pacer of the phone has ended")
        for call in self._calls.values():
            call.fail(error)

    def _answer(self, request: Request) -> Response | None:
        """What the far end wants of us."""
        if request.method == "ACK":
            return None
        if request.method == "OPTIONS":
            return response_to(request, 200, headers=(ALLOW,))
        if request.method in REFUSED_METHODS:
            return response_to(request, 405, headers=(ALLOW,))
        if request.method not in ("INVITE", "BYE", "CANCEL"):
            return response_to(request, 501, headers=(ALLOW,))
        if request.method == "INVITE" and request.to_tag is None:
            return self._take(request)
        call = self._calls.get(request.call_id)
        if request.method == "CANCEL" and isinstance(call, TakenCall):
            return call.answer(request)
        if call is None or call.tag != request.to_tag or request.method == "CANCEL":
            return response_to(request, 481)
        return call.answer(request)

    def _take(self, invite: Request) -> Response:
        """A call for us."""
        if self.callee is None:
            return response_to(invite, 480)  # nobody is at home
        try:
            call = TakenCall(invite, self.callee, self._open_line, self._media, self._forget)
        except SipError:
            return response_to(invite, 488)
        self._calls[call.call_id] = call
        self.taken.put_nowait(call)
        return call.ringing()
