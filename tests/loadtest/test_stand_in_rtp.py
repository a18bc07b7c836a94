"""RTP through the stand-in: what passes, from whom, and digits both ways."""

from __future__ import annotations

import pytest

from loadtest.stand_in import StandIn
from loadtest.stand_in_digits import digit_payloads
from loadtest.stand_in_rtp import NoRtpPort, RtpPorts
from tests.loadtest.stand_in_rig import RTP_HEADER, Address, Ari, Caller, Udp, eventually

EVENT = 101


async def bridged(ari: Ari, caller: Caller, peer: Udp) -> Address:
    """A call with its external media in one bridge; where the peer's RTP goes."""
    await caller.call()
    channel = (await ari.event("StasisStart"))["channel"]["id"]
    media = await ari.external_media("m1", peer.address)
    await ari.event("StasisStart")
    await ari.call("POST", "/ari/bridges/b1", type="mixing")
    await ari.call("POST", "/ari/bridges/b1/addChannel", channel=f"{channel},m1")
    return media


async def test_packets_pass_unchanged(ari: Ari, caller: Caller, peer: Udp) -> None:
    """Gaps, duplicates, order, odd sizes and wrap-around come out as they went in, both ways."""
    media = await bridged(ari, caller, peer)
    numbers = [65534, 65535, 0, 1, 5, 4, 4, 6]
    for number in numbers:
        there = peer.send_rtp(media, number, bytes([number & 0xFF]) * (80 + number % 7))
        back = caller.rtp.send_rtp(caller.media, number)
        assert await caller.rtp.receive() == there
        assert await peer.receive() == back


async def test_first_packet_goes_to_the_address_in_the_sdp(
    ari: Ari, caller: Caller, peer: Udp
) -> None:
    """The caller hears the agent before it has sent anything itself."""
    media = await bridged(ari, caller, peer)
    packet = peer.send_rtp(media, 1)
    assert await caller.rtp.receive() == packet


async def test_callers_source_is_latched(ari: Ari, caller: Caller, peer: Udp) -> None:
    """RTP goes to where RTP comes from, and from then on only that source is heard."""
    media = await bridged(ari, caller, peer)
    behind_nat, stranger = Udp(), Udp()
    behind_nat.send(b"no RTP", caller.media)
    stranger.send(b"nor this", caller.media)
    first = behind_nat.send_rtp(caller.media, 1)
    assert await peer.receive() == first
    stranger.send_rtp(caller.media, 2)
    second = behind_nat.send_rtp(caller.media, 3)
    assert await peer.receive() == second
    answer = peer.send_rtp(media, 9)
    assert await behind_nat.receive() == answer
    for udp in (behind_nat, stranger):
        udp.socket.close()


async def test_external_media_hears_its_peer_only(ari: Ari, caller: Caller, peer: Udp) -> None:
    """Packets from elsewhere don't reach the caller."""
    media = await bridged(ari, caller, peer)
    stranger = Udp()
    stranger.send_rtp(media, 1)
    packet = peer.send_rtp(media, 2)
    assert await caller.rtp.receive() == packet
    stranger.socket.close()


async def test_malformed_rtp_is_counted_and_not_passed(
    stand_in: StandIn, ari: Ari, caller: Caller, peer: Udp
) -> None:
    """Short datagrams and other versions than 2 stop here."""
    media = await bridged(ari, caller, peer)
    for malformed in (b"", b"\x80" * 11, b"\x40" + bytes(171)):
        peer.send(malformed, media)
    packet = peer.send_rtp(media, 1)
    assert await caller.rtp.receive() == packet
    assert [leg.malformed for leg in stand_in.state().legs] == [0, 3]


async def test_removed_from_the_bridge_nothing_passes(
    stand_in: StandIn, ari: Ari, caller: Caller, peer: Udp
) -> None:
    """After removeChannel packets are received and go nowhere."""
    media = await bridged(ari, caller, peer)
    await ari.call("POST", "/ari/bridges/b1/removeChannel", channel="m1")
    peer.send_rtp(media, 1)
    await eventually(lambda: stand_in.state().legs[1].received == 1)
    assert stand_in.state().legs[0].sent == 0


async def test_gone_peer_is_counted(stand_in: StandIn, ari: Ari, caller: Caller, peer: Udp) -> None:
    """Refused datagrams neither stop the call nor the stand-in."""
    await bridged(ari, caller, peer)
    peer.socket.close()
    caller.rtp.send_rtp(caller.media, 1)
    await eventually(lambda: stand_in.state().legs[1].unsent == 1)
    caller.rtp.send_rtp(caller.media, 2)
    await eventually(lambda: stand_in.state().legs[0].received == 2)


async def test_callers_digits_become_events(ari: Ari, caller: Caller, peer: Udp) -> None:
    """Telephone-events are told once each and don't reach the external media."""
    await bridged(ari, caller, peer)
    sequence = 0
    for start, digit in enumerate("7#"):
        for payload in digit_payloads(digit, 120):
            header = RTP_HEADER.pack(0x80, EVENT, sequence, start * 4000, 0xC0FFEE)
            caller.rtp.send(header + payload, caller.media)
            sequence += 1
    audio = caller.rtp.send_rtp(caller.media, sequence)
    assert await peer.receive() == audio
    told = [await ari.event("ChannelDtmfReceived") for _ in "7#"]
    assert [(event["digit"], event["duration_ms"]) for event in told] == [("7", 120), ("#", 120)]
    assert ari.events.empty()


async def test_digits_are_sent_to_the_caller(ari: Ari, caller: Caller, peer: Udp) -> None:
    """A DTMF request becomes events in the stream, whose numbers stay without a gap."""
    media = await bridged(ari, caller, peer)
    peer.send_rtp(media, 500)
    await caller.rtp.receive()
    (channel,) = [event_id for event_id in await channel_ids(ari) if event_id != "m1"]
    assert (await ari.call("POST", f"/ari/channels/{channel}/dtmf", dtmf="4x*"))[0] == 204
    packets = [await caller.rtp.receive() for _ in range(14)]
    headers = [RTP_HEADER.unpack_from(packet) for packet in packets]
    assert [header[1] for header in headers] == ([0x80 | EVENT] + [EVENT] * 6) * 2
    assert [header[2] for header in headers] == list(range(501, 515))
    assert [packet[12:] for packet in packets] == [
        *digit_payloads("4", 100),
        *digit_payloads("*", 100),
    ]
    peer.send_rtp(media, 501)
    assert RTP_HEADER.unpack_from(await caller.rtp.receive())[2] == 515


async def channel_ids(ari: Ari) -> list[str]:
    _, channels = await ari.call("GET", "/ari/channels")
    return [channel["id"] for channel in channels]


def test_ports_are_even_and_the_longest_unused_comes_first() -> None:
    """A released port goes to the end of the line."""
    ports = RtpPorts("127.0.0.1", 44101, 44107)
    first, second = ports.bind(), ports.bind()
    numbers = [bound.getsockname()[1] for bound in (first, second)]
    assert numbers == [44102, 44104]
    ports.release(first)
    third, fourth = ports.bind(), ports.bind()
    assert [bound.getsockname()[1] for bound in (third, fourth)] == [44106, 44102]
    with pytest.raises(NoRtpPort, match="no free RTP port"):
        ports.bind()
    for bound in (second, third, fourth):
        ports.release(bound)
    assert not ports.leased


async def test_hundred_calls_are_relayed(stand_in: StandIn, ari: Ari) -> None:
    """Every call's packets reach its own peer only."""
    peers = [Udp() for _ in range(100)]
    callers = [Caller(stand_in.sip_address) for _ in peers]
    medias: list[Address] = []
    for number, (caller, peer) in enumerate(zip(callers, peers, strict=True)):
        await caller.call()
        channel = (await ari.event("StasisStart"))["channel"]["id"]
        medias.append(await ari.external_media(f"m{number}", peer.address))
        await ari.event("StasisStart")
        await ari.call("POST", f"/ari/bridges/b{number}")
        ids = f"{channel},m{number}"
        await ari.call("POST", f"/ari/bridges/b{number}/addChannel", channel=ids)
    for peer, media in zip(peers, medias, strict=True):
        for sequence in range(5):
            peer.send_rtp(media, sequence, media[1].to_bytes(2, "big") * 80)
    for caller, media in zip(callers, medias, strict=True):
        for sequence in range(5):
            packet = await caller.rtp.receive()
            assert RTP_HEADER.unpack_from(packet)[2] == sequence
            assert packet[12:14] == media[1].to_bytes(2, "big")
    for caller, peer in zip(callers, peers, strict=True):
        caller.__exit__()
        peer.socket.close()
