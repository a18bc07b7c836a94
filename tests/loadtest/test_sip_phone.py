"""The phone's signalling against a far end on loopback."""

import asyncio
import os
import re
import time

import pytest

from loadtest.phone_plan import CallPlan
from loadtest.sdp import parse_sdp
from loadtest.sip_message import Request, SipError
from loadtest.sip_phone import SipPhone
from tests.loadtest.far_end import FAST_T1_SECONDS, FarEnd, one_call, until


async def test_the_exchange_of_an_answered_call() -> None:
    """INVITE, ACK and BYE; the latter two along the route, to the Contact, with both tags."""
    record, far = await one_call("echo", seconds=0.0)
    assert far.methods() == ["INVITE", "ACK", "BYE"]
    invite, ack, bye = far.requests
    assert (ack.cseq, bye.cseq) == ((1, "ACK"), (2, "BYE"))
    assert len({request.branch for request in far.requests}) == 3
    for request in (ack, bye):
        assert request.uri == far.uri("echo")
        assert request.get("Route") == f"<{far.uri('p')};lr>"
        assert (request.from_tag, request.to_tag) == (invite.from_tag, "far")
    assert parse_sdp(invite.body).payload_types == (0, 101)
    assert record.call_id == invite.call_id


async def test_a_refused_call() -> None:
    """The status is in the record, and the far end gets its ACK."""
    async with FarEnd() as far, SipPhone() as phone:
        record = await phone.call(CallPlan(to=far.uri("busy")))
        await until(lambda: far.methods() == ["INVITE", "ACK"], "the ACK")
    assert (record.outcome, record.status, record.ended_by) == ("refused", 486, None)
    assert (record.answered_at, record.packets, record.sent_packets) == (None, [], 0)
    assert far.requests[0].branch == far.requests[1].branch


@pytest.mark.parametrize("after", [0.0, 0.1])
async def test_a_canceled_call(after: float) -> None:
    """CANCEL goes out at its time, or as soon as the far end has rung."""
    record, far = await one_call("ring", cancel_after=after)
    assert (record.outcome, record.status, record.ended_by) == ("canceled", 487, None)
    assert record.ended_at - record.invited_at >= after
    assert far.methods()[:2] == ["INVITE", "CANCEL"]


async def test_nobody_answers_in_time() -> None:
    """A call that only rings is cancelled, and its outcome is a timeout."""
    record, far = await one_call("ring", ring_seconds=0.1)
    assert (record.outcome, record.status) == ("timeout", 487)
    assert far.methods()[:2] == ["INVITE", "CANCEL"]


async def test_hanging_up_by_hand_while_it_rings() -> None:
    """`hang_up` before the answer is a CANCEL."""
    async with FarEnd() as far, SipPhone() as phone:
        call = phone.start(CallPlan(to=far.uri("ring")))
        await until(lambda: far.methods() == ["INVITE"], "the INVITE")
        call.hang_up()
        assert not await call.answered()
        assert (await call.record).outcome == "canceled"


async def test_an_answer_that_crosses_the_cancel() -> None:
    """It is acknowledged and hung up at once (RFC 3261 section 9.1)."""
    record, far = await one_call("race", cancel_after=0.0)
    assert (record.outcome, record.status, record.answered_at) == ("canceled", 200, None)
    assert far.methods() == ["INVITE", "CANCEL", "ACK", "BYE"]


async def test_a_far_end_that_is_mute() -> None:
    """The INVITE is repeated at doubling intervals for 64 * T1; then the call has timed out."""
    record, far = await one_call("mute")
    assert (record.outcome, record.status) == ("timeout", 408)
    assert record.ended_at - record.invited_at >= 64 * FAST_T1_SECONDS
    assert 4 <= len(far.requests) <= 7
    assert len({request.branch for request in far.requests}) == 1


async def test_a_lost_invite_is_repeated() -> None:
    """The far end hears the second one, and there is one call."""
    record, far = await one_call("deaf", seconds=0.0)
    assert record.outcome == "answered"
    assert far.methods()[:2] == ["INVITE", "INVITE"]


async def test_a_repeated_answer_is_acknowledged_again() -> None:
    """The far end may have lost the ACK."""
    async with FarEnd() as far, SipPhone() as phone:
        call = phone.start(CallPlan(to=far.uri("echo")))
        await until(lambda: far.methods() == ["INVITE", "ACK"], "the ACK")
        far.send(far.accepted[call.call_id])
        await until(lambda: far.methods() == ["INVITE", "ACK", "ACK"], "both ACKs")
        assert far.requests[1] == far.requests[2]
        call.hang_up()
        assert (await call.record).outcome == "answered"


async def test_the_far_end_hangs_up() -> None:
    """Its BYE gets 200, a repeated one too, and the record says who it was."""
    async with FarEnd() as far, SipPhone() as phone:
        call = phone.start(CallPlan(to=far.uri("echo")))
        assert await call.answered()
        await until(lambda: call.call_id in far.dialogs, "the dialog")
        far.ask(call.call_id, "BYE", 1)
        record = await call.record
        far.ask(call.call_id, "BYE", 1)
        await until(lambda: len(far.responses) == 2, "two responses")
    assert (record.outcome, record.ended_by) == ("answered", "callee")
    assert [response.status for response in far.responses] == [200, 200]
    assert "BYE" not in far.methods()


@pytest.mark.parametrize(
    ("method", "status"),
    [("OPTIONS", 200), ("INFO", 405), ("REFER", 405), ("JUGGLE", 501), ("CANCEL", 481)],
)
async def test_other_requests_within_the_call(method: str, status: int) -> None:
    """Answered or refused by name; the call goes on."""
    async with FarEnd() as far, SipPhone() as phone:
        call = phone.start(CallPlan(to=far.uri("echo")))
        await until(lambda: call.call_id in far.dialogs, "the dialog")
        far.ask(call.call_id, method, 1)
        await until(lambda: far.responses, "the response")
        assert far.responses[0].status == status
        assert not call.record.done()


async def test_requests_that_belong_to_no_call() -> None:
    """A BYE of an unknown call gets 481, a call for the phone 480; no SIP is counted."""
    async with FarEnd() as far, SipPhone() as phone:
        await phone.call(CallPlan(to=far.uri("busy")))
        far.phone = phone.address
        via = "SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK"
        parties = (("From", "<sip:a@b>;tag=1"), ("Call-ID", "none"))
        for number, method, to in ((1, "BYE", "<sip:c@d>;tag=2"), (2, "INVITE", "<sip:c@d>")):
            cseq = ("CSeq", f"{number} {method}")
            headers = (("Via", f"{via}{number}"), *parties, ("To", to), cseq)
            far.send(Request(method, "sip:c@d", headers=headers))
        far.send_bytes(b"\r\n\r\n")
        await until(lambda: len(far.responses) == 2, "both refusals")
        await until(lambda: phone.malformed == 1, "the count")
    assert [response.status for response in far.responses] == [481, 480]


async def test_leaving_the_phone_hangs_up_and_frees_everything() -> None:
    """BYE for what is up, CANCEL for what rings, and no file descriptor stays."""
    before = len(os.listdir("/proc/self/fd"))
    async with FarEnd() as far:
        async with SipPhone() as phone:
            up = phone.start(CallPlan(to=far.uri("echo")))
            ringing = phone.start(CallPlan(to=far.uri("ring")))
            unborn = phone.start(CallPlan(to=far.uri("echo")))
            unborn.record.cancel()
            assert await up.answered()
        assert (await up.record).outcome == "answered"
        assert (await ringing.record).outcome == "canceled"
        assert far.methods(up.call_id) == ["INVITE", "ACK", "BYE"]
    await until(lambda: len(os.listdir("/proc/self/fd")) == before, "the descriptors' return")


async def test_a_cancelled_caller_hangs_up() -> None:
    """When the task that waits for a call is cancelled, the far end gets a BYE."""
    async with FarEnd() as far, SipPhone() as phone:
        caller = asyncio.create_task(phone.call(CallPlan(to=far.uri("echo"))))
        await until(lambda: "ACK" in far.methods(), "the answer")
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        await until(lambda: "BYE" in far.methods(), "the BYE")


@pytest.mark.parametrize(
    ("user", "fields", "complaint"),
    [
        ("empty", {}, "must begin with v=0"),
        ("plain", {"digits": ((0.0, "1"),)}, "offers no telephone-event"),
    ],
)
async def test_an_answer_that_cannot_be_used(
    user: str, fields: dict[str, object], complaint: str
) -> None:
    """The error says why, and the far end gets ACK and BYE."""
    async with FarEnd() as far, SipPhone() as phone:
        with pytest.raises(SipError, match=complaint):
            await phone.call(CallPlan(**{"to": far.uri(user), **fields}))  # type: ignore[arg-type]
        await until(lambda: far.methods() == ["INVITE", "ACK", "BYE"], "the BYE")


@pytest.mark.parametrize(
    ("plan", "complaint"),
    [
        (CallPlan(to="tel:100"), "'tel:100' is not a SIP URI"),
        (CallPlan(to="sip:a@b", digits=((1.0, "E"),)), "digit 'E' must be one of"),
    ],
)
async def test_a_bad_plan_is_refused_at_the_start(plan: CallPlan, complaint: str) -> None:
    """Before anything is sent or bound."""
    before = len(os.listdir("/proc/self/fd"))
    async with SipPhone() as phone:
        opened = len(os.listdir("/proc/self/fd"))
        with pytest.raises(ValueError, match=re.escape(complaint)):
            phone.start(plan)
        assert len(os.listdir("/proc/self/fd")) == opened
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_name_that_does_not_resolve() -> None:
    """The error names it."""
    async with SipPhone() as phone:
        with pytest.raises(SipError, match=r"host 'nowhere\.invalid' of"):
            await phone.call(CallPlan(to="sip:a@nowhere.invalid"))


async def test_a_closed_phone_takes_no_calls() -> None:
    """Outside of its context there is no socket to call from."""
    with pytest.raises(RuntimeError, match="the phone is closed"):
        SipPhone().start(CallPlan(to="sip:a@b"))


async def test_audio_that_cannot_be_sent_ends_its_own_call_only() -> None:
    """The error names the address; the far end gets a BYE, other calls go on."""
    async with FarEnd() as far, SipPhone() as phone:
        other = phone.start(CallPlan(to=far.uri("echo")))
        with pytest.raises(OSError, match=r"RTP with 255\.255\.255\.255:4000 failed"):
            await phone.call(CallPlan(to=far.uri("astray")))
        await until(lambda: "BYE" in far.methods(), "the BYE")
        assert await other.answered()
        now_ns = time.monotonic_ns()
        await until(lambda: other.heard_since(now_ns), "audio of the other call")
