"""The stand-in as a SIP user agent: transactions, refusals, repetitions, and the fallback."""

from __future__ import annotations

import time

import pytest
from msgspec import structs

from loadtest.audio import decode, tone
from loadtest.recording import power_share
from loadtest.sip_message import Request, Response
from loadtest.stand_in import StandIn
from loadtest.stand_in_faults import Faults
from tests.loadtest.stand_in_rig import VALUES, Ari, Caller, eventually


async def test_answer_carries_usable_sdp(ari: Ari, caller: Caller) -> None:
    """100, then 200 with PCMU and telephone-events on an even port of the range."""
    caller.send(caller.invite)
    trying = await caller.message()
    assert isinstance(trying, Response)
    assert trying.status == 100
    answer = await caller.call()
    assert (answer.payload_types, answer.event_type) == ((0, 101), 101)
    assert answer.port % 2 == 0
    assert VALUES.rtp_start <= answer.port <= VALUES.rtp_end


async def test_answer_is_repeated_until_acknowledged(ari: Ari, caller: Caller) -> None:
    """Without an ACK the 200 comes again after T1; with it no more."""
    started = time.monotonic()
    caller.send(caller.invite)
    first = await caller.response("INVITE")
    again = await caller.response("INVITE")
    assert again == first
    assert time.monotonic() - started > 0.4


async def test_repeated_requests_are_one(stand_in: StandIn, ari: Ari, caller: Caller) -> None:
    """A second INVITE of the same transaction makes no second call, a second BYE no 481."""
    await caller.call()
    caller.send(caller.invite)
    await ari.event("StasisStart")
    assert len(stand_in.state().channels) == 1
    bye = caller.in_dialog("BYE")
    caller.send(bye)
    caller.send(bye)
    assert [(await caller.response("BYE")).status for _ in range(2)] == [200, 200]
    assert ari.events.qsize() == 2  # ChannelHangupRequest, StasisEnd


async def test_bye_is_repeated_until_answered(ari: Ari, caller: Caller) -> None:
    """Our BYE comes again until the caller says 200; then the dialog is gone."""
    await caller.call()
    channel = (await ari.event("StasisStart"))["channel"]["id"]
    await ari.call("DELETE", f"/ari/channels/{channel}")
    first = await caller.message()
    while not isinstance(first, Request):
        first = await caller.message()
    assert await caller.request("BYE") == first


async def test_cancel_while_ringing(stand_in: StandIn, ari: Ari, caller: Caller) -> None:
    """180, then 200 for the CANCEL and 487 for the INVITE; the application hears nothing."""
    stand_in.set_faults(Faults(ring_ms=10_000))
    caller.send(caller.invite)
    statuses = []
    for _ in range(2):
        message = await caller.message()
        assert isinstance(message, Response)
        statuses.append(message.status)
    assert statuses == [100, 180]
    caller.cancel()
    assert (await caller.response("CANCEL")).status == 200
    refusal = await caller.response("INVITE")
    assert refusal.status == 487
    caller.acknowledge(refusal)
    await eventually(lambda: stand_in.state().sip_calls == 0)
    assert not stand_in.state().channels
    assert ari.events.empty()


async def test_ringing_ends_in_an_answer(stand_in: StandIn, ari: Ari, caller: Caller) -> None:
    """Ringing only delays the answer."""
    stand_in.set_faults(Faults(ring_ms=30))
    await caller.call()
    assert (await ari.event("StasisStart"))["channel"]["state"] == "Up"


@pytest.mark.parametrize(("reason", "status"), [("busy", 486), ("congestion", 503), ("", 603)])
async def test_hung_up_while_ringing(
    stand_in: StandIn, ari: Ari, caller: Caller, reason: str, status: int
) -> None:
    """An unanswered call that ARI ends is refused with a status that fits the reason."""
    stand_in.set_faults(Faults(ring_ms=10_000))
    caller.send(caller.invite)
    await caller.message()
    (channel,) = stand_in.state().channels
    await ari.call("DELETE", f"/ari/channels/{channel}", reason=reason)
    assert (await caller.response("INVITE")).status == status


@pytest.mark.parametrize(("method", "status"), [("OPTIONS", 200), ("BYE", 481), ("PUBLISH", 501)])
async def test_requests_outside_of_calls(caller: Caller, method: str, status: int) -> None:
    """OPTIONS is answered, a BYE for no call and unknown methods are refused."""
    caller.send(caller.outside(method))
    response = await caller.response(method)
    assert response.status == status
    assert response.get("Allow") == "INVITE"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"v=0\r\nc=IN IP4 127.0.0.1\r\nm=audio 4000 RTP/AVP 8\r\n",
        b"v=0\r\nc=IN IP4 host.invalid\r\nm=audio 4000 RTP/AVP 0\r\n",
    ],
)
async def test_invite_without_pcmu_is_488(stand_in: StandIn, caller: Caller, body: bytes) -> None:
    """No offer, one without PCMU, or one with a name for its address isn't acceptable."""
    caller.send(structs.replace(caller.invite, body=body))
    assert (await caller.response("INVITE")).status == 488
    assert not stand_in.state().rtp_ports


async def test_unknown_extension_is_404(stand_in: StandIn, caller: Caller) -> None:
    """The dialplan has no place for a name of one letter."""
    uri = caller.invite.uri.replace("+15551234567", "h")
    caller.send(structs.replace(caller.invite, uri=uri))
    assert (await caller.response("INVITE")).status == 404
    assert not stand_in.state().rtp_ports


async def test_reinvite_gets_the_same_session(ari: Ari, caller: Caller) -> None:
    """A re-INVITE is answered with the SDP as it was."""
    before = await caller.call()
    invite = caller.in_dialog("INVITE", 2)
    caller.send(structs.replace(invite, body=caller.invite.body))
    response = await caller.response("INVITE")
    assert response.status == 200
    assert response.body == before.encode()


async def test_no_rtp_port_left_is_503(caller: Caller) -> None:
    """A call beyond the port range is refused, and one that ends makes room."""
    values = structs.replace(VALUES, rtp_start=44000, rtp_end=44001)
    async with StandIn(values) as small, Ari(small.ari_base, "tests", "not-secret") as ari:
        with Caller(small.sip_address) as first, Caller(small.sip_address) as second:
            async with ari.listening():
                await first.call()
                second.send(second.invite)
                assert (await second.response("INVITE")).status == 503
                await first.hang_up()
                with Caller(small.sip_address) as third:
                    await third.call()


async def test_malformed_datagrams_are_counted(stand_in: StandIn, ari: Ari, caller: Caller) -> None:
    """Garbage is dropped; calls are taken as before."""
    for garbage in (b"", b"\x00" * 40, b"INVITE sip:x SIP/2.0\r\n\r\n", b"SIP/2.0 200\r\n"):
        caller.sip.send(garbage, caller.to)
    await caller.call()
    assert stand_in.state().sip_malformed == 4


async def hear_fallback(caller: Caller, frames: int) -> None:
    """So many frames of 600 Hz in a steady stream, then BYE."""
    packets = [await caller.rtp.receive() for _ in range(frames)]
    await caller.request("BYE")
    sequences = [int.from_bytes(packet[2:4], "big") for packet in packets]
    first = sequences[0]
    assert sequences == [(first + i) & 0xFFFF for i in range(frames)]
    heard = decode(b"".join(packet[12:] for packet in packets))
    assert power_share(heard, 600) > 0.95


async def test_fallback_without_an_application(stand_in: StandIn, caller: Caller) -> None:
    """Nobody is connected: the caller hears the tone for 2 s and is hung up."""
    await caller.call()
    started = time.monotonic()
    await hear_fallback(caller, 100)
    assert time.monotonic() - started > 1.9
    await eventually(lambda: stand_in.state().sip_calls == 0)


async def test_fallback_on_continue(
    stand_in: StandIn, ari: Ari, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application gives the call back: StasisEnd, then the tone and the end."""
    monkeypatch.setattr("loadtest.stand_in_sip_call.FALLBACK_TONE", tone(600, 0.2))
    await caller.call()
    channel = (await ari.event("StasisStart"))["channel"]["id"]
    assert (await ari.call("POST", f"/ari/channels/{channel}/continue"))[0] == 204
    await ari.event("StasisEnd")
    again = await ari.call("POST", f"/ari/channels/{channel}/continue")
    assert again == (409, {"message": "Channel not in Stasis application"})
    await hear_fallback(caller, 10)
    await eventually(lambda: stand_in.state().sip_calls == 0)
    assert ari.events.empty()


async def test_bye_during_the_fallback_ends_it(stand_in: StandIn, caller: Caller) -> None:
    """A caller who doesn't want to hear it all is let go at once."""
    await caller.call()
    await caller.rtp.receive()
    await caller.hang_up()
    assert not stand_in.state().channels
