"""The phone's audio against a far end on loopback: real sockets, both event loops."""

import asyncio
import os
import socket
import threading
import time
from itertools import pairwise

import pytest
import uvloop

from loadtest.audio import silence, tone
from loadtest.phone_plan import BadNetwork, CallPlan, CallRecord
from loadtest.recording import continuity, first_sound_ns, gaps, hears_only, timeline
from loadtest.sdp import Sdp, parse_sdp
from loadtest.sip_phone import SipPhone
from tests.loadtest.far_end import FarEnd, one_call, until

NS_PER_MS = 1_000_000


async def echo_call() -> CallRecord:
    """A second of a tone to an echo and back."""
    record, _ = await one_call("echo", audio=tone(700, 0.2), audio_loop=True, seconds=1.0)
    return record


def check_echo(record: CallRecord) -> None:
    """Everything that was said came back, as it was said, on time."""
    assert (record.outcome, record.status, record.ended_by) == ("answered", 200, "caller")
    assert record.answered_at is not None
    assert record.invited_at < record.answered_at < record.ended_at
    assert record.ended_at - record.answered_at == pytest.approx(1.0, abs=0.5)
    assert 40 <= record.sent_packets <= 75
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


async def test_a_bad_network() -> None:
    """Loses its share, holds up the others, and goes silent when it is told to."""
    network = BadNetwork(loss_share=0.4, jitter_ms=60)
    record, far = await one_call("echo", seconds=2.0, network=network)
    sent = far.rtp[record.call_id].packets
    assert 20 < len(sent) < 85  # of a hundred
    assert any(later.sequence < first.sequence for first, later in pairwise(sent))
    network = BadNetwork(silent_after=0.5)
    record, far = await one_call("echo", seconds=2.0, network=network)
    sent = far.rtp[record.call_id].packets
    assert 10 < len(sent) <= 27
    assert continuity(sent).lost == 0


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
    assert record.longest_gap_ms >= 15


async def test_a_new_offer_during_the_call_moves_the_audio() -> None:
    """A re-INVITE is answered with the same SDP, and audio goes to the new address."""
    async with FarEnd() as far, SipPhone() as phone:
        call = phone.start(CallPlan(to=far.uri("echo")))
        assert await call.answered()
        other = phone.start(CallPlan(to=far.uri("echo")))
        assert await other.answered()
        old, new = far.rtp[call.call_id], far.rtp[other.call_id]
        await until(lambda: old.packets and new.packets, "audio of both")
        ssrc = old.packets[0].ssrc
        far.ask(call.call_id, "INVITE", 1, Sdp(*new.address))
        await until(lambda: new.packets[-1].ssrc == ssrc, "audio at the new address")
        moved = next(packet for packet in new.packets if packet.ssrc == ssrc)
        answer = far.response_of("INVITE")
        assert answer is not None
        assert (answer.status, answer.body) == (200, far.requests[0].body)
        assert (old.packets[-1].sequence + 1) % 2**16 == moved.sequence
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
    steps = [(b.timestamp - a.timestamp) % 2**32 // 160 for a, b in pairwise(sent)]
    assert max(steps) >= 5
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
        assert 50 <= record.sent_packets <= 75
        assert continuity(record.packets).lost == 0
        assert hears_only(timeline(record.packets), frequency)


async def test_arrivals_are_the_kernels_even_while_python_stalls() -> None:
    """Packets that come in while the loop is blocked carry their own times, not that of reading."""
    sent_ns: list[tuple[int, int]] = []
    done = threading.Event()

    def send_five(sender: socket.socket, to: tuple[str, int]) -> None:
        for number in range(5):
            before_ns = time.monotonic_ns()
            sender.sendto(b"\x80\x00" + number.to_bytes(2) + bytes(8) + b"\x80" * 160, to)
            sent_ns.append((before_ns, time.monotonic_ns()))
            done.wait(0.02)

    async with FarEnd() as far, SipPhone() as phone:
        call = phone.start(CallPlan(to=far.uri("echo")))
        await until(lambda: call.call_id in far.rtp and far.rtp[call.call_id].source, "audio")
        port = far.rtp[call.call_id]
        assert port.source is not None
        with socket.socket(fileno=os.dup(port.transport.get_extra_info("socket").fileno())) as own:
            thread = threading.Thread(target=send_five, args=(own, port.source))
            thread.start()
            thread.join()  # the loop stands still meanwhile
        call.hang_up()
        record = await call.record
    arrived_ns = [packet.at_ns for packet in record.packets if packet.ssrc == 0]
    for at_ns, (before_ns, after_ns) in zip(arrived_ns, sent_ns, strict=True):
        assert before_ns - NS_PER_MS < at_ns < after_ns + NS_PER_MS
