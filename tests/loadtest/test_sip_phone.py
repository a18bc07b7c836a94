"""The phone against a far end on loopback: real sockets, both event loops."""

import asyncio
import os
import re
import socket
import time

import pytest
import uvloop

from loadtest.audio import silence, tone
from loadtest.phone_plan import CallPlan, CallRecord
from loadtest.recording import continuity, first_sound_ns, gaps, hears_only, timeline
from loadtest.sdp import Sdp, parse_sdp
from loadtest.sip_message import Request, SipError
from loadtest.sip_phone import SipPhone
from tests.loadtest.far_end import FarEnd, until

FAST_T1_SECONDS = 0.01


async def one_call(user: str, **fields: object) -> tuple[CallRecord, FarEnd]:
    """Call a user of a far end with a phone whose timers are short; return what both saw."""
    async with FarEnd() as far, SipPhone(t1_seconds=FAST_T1_SECONDS) as phone:
        plan = CallPlan(**{"to": far.uri(user), **fields})  # type: ignore[arg-type]
        record = await phone.call(plan)
        await until(lambda: record.status >= 300 or "ACK" in far.methods(), "the ACK")
    return record, far


async def echo_call() -> CallRecord:
    """A second of a tone to an echo and back."""
    record, _ = await one_call("echo", audio=tone(700, 0.2), audio_loop=True, seconds=1.0)
    return record


def check_echo(record: CallRecord) -> None:
    """Everything that was said came back, as it was said, on time."""
    assert (record.outcome, record.status, record.ended_by) == ("answered", 200, "caller")
    assert record.answered_at is not None
    assert record.invited_at < record.answered_at < record.ended_at
    assert record.ended_at - record.answered_at == pytest.approx(1.0, abs=0.2)
    assert 45 <= record.sent_packets <= 55
    assert record.received_packets == len(record.packets) >= record.sent_packets - 1
    assert continuity(record.packets).lost == 0
    assert record.stray == 0
    assert len(record.sent_audio) >= 160 * record.sent_packets
    assert hears_only(timeline(record.packets), 700)
    assert record.first_sent_ns is not None
    assert record.first_sent_ns < record.packets[0].at_ns
    assert record.first_sent_ns / 1e9 > record.answered_at
    cadence = gaps(record.packets)
    assert cadence is not None
    assert cadence.p50_ms == pytest.approx(20.0, abs=1.5)
    assert record.longest_gap_ms == pytest.approx(cadence.max_ms)


async def test_a_call_hears_its_echo() -> None:
    """Answered, audio both ways, hung up by the caller, with asyncio's own loop."""
    check_echo(await echo_call())


def test_a_call_hears_its_echo_on_uvloop() -> None:
    """The same on uvloop."""
    check_echo(uvloop.run(echo_call()))


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
        call = phone.start(CallPlan(to=far.uri("repeat")))
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


async def test_a_new_offer_during_the_call_moves_the_audio() -> None:
    """A re-INVITE is answered with the same SDP, and audio goes to the new address."""
    async with FarEnd() as far, SipPhone() as phone:
        call = phone.start(CallPlan(to=far.uri("echo")))
        assert await call.answered()
        other = phone.start(CallPlan(to=far.uri("echo")))
        assert await other.answered()
        old, new = far.rtp[call.call_id], far.rtp[other.call_id]
        other.hang_up()
        await other.record
        new.packets.clear()
        far.ask(call.call_id, "INVITE", 1, Sdp(*new.address))
        await until(lambda: len(new.packets) > 5, "audio at the new address")
        answer = far.response_of("INVITE")
        assert answer is not None
        assert (answer.status, answer.body) == (200, far.requests[0].body)
        assert old.packets[-1].sequence + 1 == new.packets[0].sequence
        call.hang_up()
        assert (await call.record).outcome == "answered"


async def test_hold_and_resume() -> None:
    """On hold the phone sends nothing; the answers mirror the direction."""
    async with FarEnd() as far, SipPhone() as phone:
        call = phone.start(CallPlan(to=far.uri("echo")))
        await until(lambda: call.call_id in far.rtp and far.rtp[call.call_id].packets, "audio")
        port = far.rtp[call.call_id]
        far.ask(call.call_id, "INVITE", 1, Sdp(*port.address, direction="sendonly"))
        await until(lambda: far.response_of("INVITE"), "the answer to hold")
        held = far.response_of("INVITE")
        assert held is not None
        assert parse_sdp(held.body).direction == "recvonly"
        assert parse_sdp(held.body).version == 2
        before = len(port.packets)
        far.ask(call.call_id, "INVITE", 2, Sdp(*port.address))
        await until(lambda: len(port.packets) > before + 3, "audio again")
        call.hang_up()
        await call.record


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


async def test_digits_go_out_as_telephone_events() -> None:
    """In their order, at their times, with one timestamp for a key press; audio stops for them."""
    digits = ((0.1, "7"), (0.1, "#"))
    record, far = await one_call("echo", audio=tone(500, 2.0), seconds=0.9, digits=digits)
    events = [p for p in far.rtp[record.call_id].packets if p.payload_type == 101]
    assert [p.payload[0] for p in events] == [7] * 11 + [11] * 11
    assert len({p.timestamp for p in events}) == 2
    sent = far.rtp[record.call_id].packets
    assert sent.index(events[0]) == 5
    assert continuity(sent).lost == 0
    assert record.sent_audio[5 * 160 : 16 * 160] == silence(0.22)


async def test_keys_and_audio_by_hand() -> None:
    """`press` and `play` act within a few ptimes; `heard_since` shows what came back."""
    async with FarEnd() as far, SipPhone() as phone:
        call = phone.start(CallPlan(to=far.uri("echo"), digits=((60.0, "9"),)))
        assert await call.answered()
        since_ns = time.monotonic_ns()
        call.play(tone(500, 5.0))
        await until(lambda: first_sound_ns(call.heard_since(since_ns)), "the tone")
        assert all(packet.at_ns >= since_ns for packet in call.heard_since(since_ns))
        call.press("*")
        events = far.rtp[call.call_id]
        await until(lambda: events.packets[-1].payload_type == 101, "the key press")
        call.hang_up()
        await call.record
    assert next(p for p in events.packets if p.payload_type == 101).payload[0] == 10


async def test_early_media_is_heard() -> None:
    """A packet from the address in a 183's SDP counts, and the call can still be cancelled."""
    record, _ = await one_call("early", ring_seconds=0.2)
    assert (record.outcome, record.received_packets, record.sent_packets) == ("timeout", 1, 0)


async def test_strays_are_counted_and_not_heard() -> None:
    """Packets of somebody else, and no RTP from the right one."""
    async with FarEnd() as far, SipPhone() as phone:
        call = phone.start(CallPlan(to=far.uri("echo")))
        await until(lambda: call.call_id in far.rtp and far.rtp[call.call_id].source, "audio")
        port = far.rtp[call.call_id]
        assert port.source is not None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"\x80\x00" + bytes(170), port.source)
        port.transport.sendto(b"no RTP", port.source)
        seen = len(port.packets)
        await until(lambda: len(port.packets) > seen + 2, "more audio")
        call.hang_up()
        record = await call.record
    assert record.stray == 2
    assert {packet.ssrc for packet in record.packets} == {port.packets[0].ssrc}


async def test_a_plan_that_keeps_no_packets_has_counts() -> None:
    """For load tests of any length."""
    record, _ = await one_call("echo", audio=tone(500, 1.0), seconds=0.3, keep_packets=False)
    assert (record.packets, record.sent_audio) == ([], b"")
    assert record.received_packets >= 10
    assert record.longest_gap_ms > 15


async def test_a_stall_of_the_loop_is_reported_and_not_made_up_for() -> None:
    """After 200 ms without the pacer: three frames at once, the others never, no drift."""
    async with FarEnd() as far, SipPhone() as phone:
        call = phone.start(CallPlan(to=far.uri("echo"), audio=tone(500, 9.0)))
        await until(lambda: call.call_id in far.rtp and far.rtp[call.call_id].packets, "audio")
        time.sleep(0.2)  # noqa: ASYNC251 - the stall
        sent = far.rtp[call.call_id].packets
        before = len(sent)
        await until(lambda: len(sent) > before + 10, "audio again")
        call.hang_up()
        record = await call.record
    steps = [
        (b.timestamp - a.timestamp) % 2**32 // 160 for a, b in zip(sent, sent[1:], strict=False)
    ]
    assert max(steps) in range(5, 10)
    assert continuity(sent).lost == 0
    assert record.send_late_max_ms >= 60
    assert len(record.sent_audio) == 160 * (1 + sum(steps))


async def test_thirty_calls_hear_their_own_tone() -> None:
    """Calls at once don't mix, and none is short of packets."""
    frequencies = [300.0 + 90 * index for index in range(30)]
    async with FarEnd() as far, SipPhone() as phone:
        plans = [CallPlan(to=far.uri("echo"), audio=tone(f, 2.0), seconds=1.2) for f in frequencies]
        records = await asyncio.gather(*map(phone.call, plans))
    for record, frequency in zip(records, frequencies, strict=True):
        assert 58 <= record.sent_packets <= 62
        assert continuity(record.packets).lost == 0
        assert hears_only(timeline(record.packets), frequency)


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
        await until(lambda: "BYE" in far.methods(), "the BYE")
        assert caller.cancelled() or not caller.done()


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
