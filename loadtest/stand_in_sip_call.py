"""One caller of the stand-in: its SIP dialog, its channel's line, and the dialplan it runs through.

As the deployed dialplan has it: `Answer(,i)`, `Stasis(app,inbound)`, and when the application isn't
connected or gives the call back, 2 s of 600 Hz and `Hangup()`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

from msgspec import Struct

from loadtest.audio import tone
from loadtest.sdp import Sdp, answer_sdp
from loadtest.sip_dialog import dialog_of_callee
from loadtest.sip_message import Headers, Request, address_uri, response_to, uri_parts
from loadtest.stand_in_calls import Channel, Exchange, Json
from loadtest.stand_in_digits import Digit
from loadtest.stand_in_rtp import Leg
from loadtest.stand_in_script import Script, wait

T1_S = 0.5  # RFC 3261 section 17.1.1.1
T2_S = 4.0
TRANSACTION_S = 64 * T1_S
CANCELLED = 127  # the cause that Asterisk shows for a CANCEL
STASIS_ARGS = ["inbound"]
FALLBACK_TONE = tone(600, 2.0)
# Asterisk's status for a call that is ended before it was answered (hangup_cause2sip).
STATUS_OF_CAUSE = {1: 404, 17: 486, 18: 408, 19: 480, 21: 403, 31: 480, 34: 503, CANCELLED: 487}
DECLINE = 603
TRY_AGAIN_S = 0.5


class Surroundings(Struct, frozen=True):
    """What a call needs of the SIP side. `send` goes to the caller's address, `forget` drops the
    call once nothing more is to be sent or answered; `contact` is the URI of the SIP side, `tries`
    how often to look again for an app that nobody is connected to."""

    exchange: Exchange
    app: str
    contact: str
    tries: int
    send: Callable[[bytes], None]
    forget: Callable[[], None]


class SipCall:
    """A caller's dialog from the INVITE to the end of the last transaction."""

    def __init__(
        self, invite: Request, offer: Sdp, leg: Leg, channel_id: str, around: Surroundings
    ) -> None:
        self.leg = leg
        self._number = called_number(invite)
        self.channel = Channel(
            id=channel_id,
            name=f"PJSIP/local-phone-{int(channel_id.partition('.')[2]):08x}",
            line=self,
            dialplan=self._dialplan(1, "Answer", ",i"),
            state="Ring",
            protocol_id=invite.call_id,
            caller=_caller_id(invite),
        )
        leg.on_digit = self._digit
        self._invite = invite
        self._around = around
        self._tag = secrets.token_hex(8)
        self._sdp = answer_sdp(offer, *leg.address).encode()
        self._answered = self._over = False
        self._cseq = 0
        self._script: Script | None = None
        self._looking: Script | None = None
        self._script_until: Literal["answer", "ack", "bye answered"] = "answer"

    def begin(self, ring_ms: int) -> None:
        """Answer and enter Stasis, after ringing if asked."""
        self._around.exchange.add_channel(self.channel)
        if ring_ms:
            self._respond(180)
            self._script = Script(wait(ring_ms / 1000), then=self._answer)
        else:
            self._answer()

    def reinvited(self, invite: Request) -> None:
        """Answer a re-INVITE with the session as it is (RFC 3261 section 14.2)."""
        self._invite = invite
        self._respond_until_acknowledged(200, self._sdp)

    def acknowledged(self) -> None:
        if self._script_until == "ack":
            self._stop_script()
            if self._over:
                self._around.forget()

    def cancelled(self) -> None:
        """CANCEL: has an effect only before the final answer (RFC 3261 section 9.2)."""
        if not self._answered and not self._over:
            about = {"cause": CANCELLED, "tech_cause": 487}
            self._around.exchange.hang_up(self.channel, CANCELLED, about)

    def far_end_hung_up(self) -> None:
        """The caller's BYE, which has been answered."""
        if not self._over:
            self._over = True
            self._stop_script()
            self._around.exchange.hang_up(self.channel)
            self._around.forget()

    def bye_answered(self) -> None:
        self._stop_script()
        self._around.forget()

    def close(self) -> None:
        """Stop at once: the stand-in ends. A caller that is still connected gets one BYE."""
        if self._answered and not self._over:
            self._around.send(self._bye())
        self._over = True
        self._stop_script()
        self.leg.close()

    def resume(self) -> None:
        """The dialplan after Stasis(): the tone, then hang up."""
        self.channel.dialplan = self._dialplan(2, "Wait", "2", "after-agent", "fallback")
        self.leg.play(FALLBACK_TONE, then=partial(self._around.exchange.hang_up, self.channel))

    def end(self, cause: int) -> None:
        """The channel is gone; unless the caller ended it, tell the caller."""
        if self._looking is not None:
            self._looking.stop()
        self.leg.close()
        if self._over:
            return
        self._over = True
        if self._answered:
            datagram = self._bye()
            self._around.send(datagram)
            self._repeat(datagram, "bye answered", then=self._around.forget)
        else:
            self._respond_until_acknowledged(STATUS_OF_CAUSE.get(cause, DECLINE), b"")

    def _answer(self) -> None:
        self._answered = True
        self._respond_until_acknowledged(200, self._sdp)
        self._around.exchange.answered(self.channel)
        self.channel.dialplan = self._dialplan(3, "Stasis", "")
        self._enter_app(self._around.tries)

    def _enter_app(self, tries: int) -> None:
        """Into Stasis; while nobody is connected look again, as the dialplan does."""
        if self._around.exchange.enter_app(self.channel, self._around.app, STASIS_ARGS):
            return
        if tries:
            again = partial(self._enter_app, tries - 1)
            self._looking = Script(wait(TRY_AGAIN_S), then=again)
        else:
            self.resume()

    def _dialplan(
        self, priority: int, app: str, data: str, context: str = "inbound", exten: str = ""
    ) -> Json:
        """Where the channel is, with the names of deploy/asterisk/extensions.conf."""
        place = {"context": context, "exten": exten or self._number, "priority": priority}
        return {**place, "app_name": app, "app_data": data}

    def _digit(self, digit: Digit) -> None:
        self._around.exchange.digit(self.channel, digit.digit, digit.duration_ms)

    def _respond(self, status: int, body: bytes = b"") -> bytes:
        contact: Headers = (("Contact", f"<{self._around.contact}>"),)
        response = response_to(self._invite, status, to_tag=self._tag, headers=contact, body=body)
        datagram = response.encode()
        self._around.send(datagram)
        return datagram

    def _respond_until_acknowledged(self, status: int, body: bytes) -> None:
        """RFC 3261 section 13.3.1.4; a caller that never sends its ACK is hung up."""
        datagram = self._respond(status, body)
        self._repeat(datagram, "ack", then=self._never_acknowledged)

    def _never_acknowledged(self) -> None:
        if self._over:
            self._around.forget()
        else:
            self._around.exchange.hang_up(self.channel)

    def _repeat(
        self, datagram: bytes, until: Literal["ack", "bye answered"], then: Callable[[], None]
    ) -> None:
        self._stop_script()
        self._script_until = until
        self._script = Script(_repetitions(self._around.send, datagram), then)

    def _stop_script(self) -> None:
        if self._script is not None:
            self._script.stop()

    def _bye(self) -> bytes:
        self._cseq += 1
        answer = response_to(self._invite, 200, to_tag=self._tag)
        sent_by = self._around.contact.removeprefix("sip:")
        via = f"SIP/2.0/UDP {sent_by};branch=z9hG4bK{secrets.token_hex(8)};rport"
        return dialog_of_callee(self._invite, answer).request("BYE", self._cseq, via).encode()


def _repetitions(send: Callable[[bytes], None], datagram: bytes) -> Iterator[float]:
    """Send again at T1, 3 T1, ... at most T2 apart, until 64 T1 are over."""
    interval_s, elapsed_s = T1_S, 0.0
    while elapsed_s < TRANSACTION_S:
        yield interval_s
        elapsed_s += interval_s
        interval_s = min(2 * interval_s, T2_S)
        send(datagram)


def called_number(invite: Request) -> str:
    """The user of the request's URI, which is the dialplan's extension."""
    return uri_parts(invite.uri)[0]


def _caller_id(invite: Request) -> Json:
    """Name and number of From, as Asterisk shows them in `caller`."""
    sender = invite.require("From")
    name = sender.partition("<")[0].strip().strip('"') if "<" in sender else ""
    return {"name": name, "number": uri_parts(address_uri(sender))[0]}
