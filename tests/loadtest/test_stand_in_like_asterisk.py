"""The same calls through the stand-in and through a real Asterisk: both must tell the same."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from loadtest.audio import decode
from loadtest.recording import power_share
from loadtest.stand_in import StandIn
from loadtest.stand_in_digits import digit_payloads
from tests.asterisk_instance import AsteriskInstance
from tests.loadtest.stand_in_rig import RTP_HEADER, VALUES, Address, Ari, Caller, Event, Udp

# Events that a real Asterisk sends besides; the stand-in leaves them out.
LEFT_OUT = {"ChannelVarset", "ChannelConnectedLine"}
# Values that are different in every run; the rest is compared as it is.
VARYING = {
    "id",
    "name",
    "protocol_id",
    "peer",
    "dialstring",
    "timestamp",
    "creationtime",
    "asterisk_id",
    "UNICASTRTP_LOCAL_PORT",
    "build",
    "config",
    "version",
    "entity_id",
    "startup_time",
    "last_reload_time",
    "channels",
}

Transcript = list[Any]


def comparable(content: Any) -> Any:
    """JSON with the type's name in place of each value that varies."""
    if isinstance(content, list):
        return [comparable(item) for item in content]
    if not isinstance(content, dict):
        return content
    return {
        key: type(value).__name__ if key in VARYING else comparable(value)
        for key, value in sorted(content.items())
    }


class Witness:
    """Does things through ARI and writes down what came of them."""

    def __init__(self, ari: Ari) -> None:
        self.ari = ari
        self.transcript: Transcript = []

    async def call(self, method: str, path: str, **parameters: str) -> Any:
        status, body = await self.ari.call(method, path, **parameters)
        place = re.sub(r"/\d+\.\d+", "/CALLER", path)
        self.transcript.append([method, place, status, comparable(body)])
        return body

    async def events_until(self, *last: str) -> Event:
        """Write down events, for each channel apart, until all these types have been seen."""
        told: dict[str, list[Any]] = {}
        waiting = list(last)
        async with asyncio.timeout(5):
            while waiting:
                event = await self.ari.events.get()
                if event["type"] in LEFT_OUT:
                    continue
                channel = event.get("channel") or event.get("peer") or {"name": ""}
                told.setdefault(channel["name"].partition("/")[0], []).append(comparable(event))
                if event["type"] in waiting:
                    waiting.remove(event["type"])
        self.transcript.append(dict(sorted(told.items())))
        return event


async def whole_call(witness: Witness, caller: Caller, peer: Udp) -> None:
    """Set-up, audio both ways, a digit, out of the bridge and in again, BYE, clearing up."""
    await caller.call()
    caller.rtp.send_rtp(caller.media, 0)
    channel = (await witness.events_until("StasisStart"))["channel"]["id"]
    await witness.call("GET", f"/ari/channels/{channel}")
    await witness.call("POST", "/ari/bridges/b1", type="mixing", name="call")
    await witness.call("POST", "/ari/bridges/b1", type="mixing")
    media = await witness.ari.external_media("m1", peer.address)
    await witness.events_until("StasisStart")
    await witness.call("POST", "/ari/bridges/b1/addChannel", channel=f"{channel},m1")
    await witness.events_until("ChannelEnteredBridge", "ChannelEnteredBridge")
    await audio(witness, caller, peer, media)
    for sequence, payload in enumerate(digit_payloads("5", 100), start=50):
        header = RTP_HEADER.pack(0x80, 101, sequence, 8000, 0xC0FFEE)
        caller.rtp.send(header + payload, caller.media)
    await witness.events_until("ChannelDtmfReceived")
    await witness.call("POST", "/ari/bridges/b1/removeChannel", channel="m1")
    await witness.events_until("ChannelLeftBridge")
    await witness.call("POST", "/ari/bridges/b1/removeChannel", channel="m1")
    await witness.call("POST", "/ari/bridges/b1/addChannel", channel="m1")
    await witness.events_until("ChannelEnteredBridge")
    await caller.hang_up()
    await witness.events_until("StasisEnd")
    await witness.call("DELETE", "/ari/channels/m1", reason="congestion")
    await witness.events_until("ChannelDestroyed")
    await witness.call("DELETE", "/ari/bridges/b1")
    await witness.events_until("BridgeDestroyed")


async def audio(witness: Witness, caller: Caller, peer: Udp, media: Address) -> None:
    """What becomes of packets: their payloads, and numbers and times from one to the next."""
    for here, there, to in ((peer, caller.rtp, media), (caller.rtp, peer, caller.media)):
        heard: list[Any] = []
        for sequence in (10, 11, 12, 15, 14, 14, 16):
            here.send_rtp(to, sequence, bytes([sequence]) * 160)
            packet = await there.receive()
            _, kind, number, ticks, _ = RTP_HEADER.unpack_from(packet)
            heard.append([kind & 0x7F, number, ticks, packet[12:].hex()])
        first = heard[0]
        for packet in reversed(heard):
            packet[1] = (packet[1] - first[1]) & 0xFFFF
            packet[2] = (packet[2] - first[2]) & 0xFFFFFFFF
        witness.transcript.append(heard)


async def call_hung_up_by_ari(witness: Witness, caller: Caller) -> None:
    """DELETE of a caller's channel: the events, and a BYE."""
    await caller.call()
    caller.rtp.send_rtp(caller.media, 0)
    channel = (await witness.events_until("StasisStart"))["channel"]["id"]
    await witness.call("DELETE", f"/ari/channels/{channel}", reason="boredom")
    await witness.call("DELETE", f"/ari/channels/{channel}")
    await witness.events_until("StasisEnd")
    await caller.request("BYE")
    await witness.call("DELETE", f"/ari/channels/{channel}")


async def call_given_back(witness: Witness, caller: Caller) -> None:
    """`continue`: StasisEnd, the fallback's tone, and a BYE."""
    await caller.call()
    caller.rtp.send_rtp(caller.media, 0)
    channel = (await witness.events_until("StasisStart"))["channel"]["id"]
    await witness.call("POST", f"/ari/channels/{channel}/continue")
    await witness.events_until("StasisEnd")
    await witness.call("POST", f"/ari/channels/{channel}/continue")
    packets = [await caller.rtp.receive() for _ in range(90)]
    heard = decode(b"".join(packet[12:] for packet in packets))
    witness.transcript.append(power_share(heard, 600) > 0.9)
    await caller.request("BYE")


async def caller_who_leaves_at_once(witness: Witness, caller: Caller) -> None:
    """BYE of a call that is in no bridge yet."""
    await caller.call()
    caller.rtp.send_rtp(caller.media, 0)
    await witness.events_until("StasisStart")
    await caller.hang_up()
    await witness.events_until("StasisEnd")


async def refusals(witness: Witness) -> None:
    """Requests that can't be fulfilled."""
    media = {"app": "voice-agent", "external_host": "127.0.0.1:9", "format": "ulaw"}
    for change in ({"app": ""}, {"external_host": "x"}, {"format": ""}, {"direction": "left"}):
        await witness.call("POST", "/ari/channels/externalMedia", **(media | change))
    await witness.call("GET", "/ari/asterisk/info")
    await witness.call("GET", "/ari/asterisk/ping")
    await witness.call("GET", "/ari/nowhere")
    await witness.call("GET", "/ari/channels")
    await witness.call("GET", "/ari/channels/none")
    await witness.call("POST", "/ari/channels/none/answer")
    await witness.call("POST", "/ari/bridges/none/addChannel", channel="none")
    await witness.call("DELETE", "/ari/bridges/none")


async def replacement(witness: Witness, newer: Ari) -> None:
    """The older subscriber is told, and stays connected."""
    async with newer.listening():
        await witness.events_until("ApplicationReplaced")


async def transcript_of(base: str, user: str, password: str, sip: Address) -> Transcript:
    """All of it, at one Asterisk or stand-in."""
    peer = Udp()
    async with (
        Ari(base, user, password) as ari,
        Ari(base, user, password) as newer,
        ari.listening() as reader,
    ):
        witness = Witness(ari)
        await refusals(witness)
        for scene in (caller_who_leaves_at_once, call_hung_up_by_ari, call_given_back):
            with Caller(sip) as caller:
                await scene(witness, caller)
        with Caller(sip) as caller:
            await whole_call(witness, caller, peer)
        await replacement(witness, newer)
        assert not reader.done()
    peer.socket.close()
    return witness.transcript


@pytest.mark.asterisk
async def test_stand_in_tells_the_same_as_asterisk(
    asterisk: AsteriskInstance, stand_in: StandIn
) -> None:
    """Answers, events and their order, and what becomes of RTP: all the same."""
    real = await transcript_of(
        asterisk.ari_base, asterisk.user, asterisk.password, ("127.0.0.1", asterisk.sip_port)
    )
    ours = await transcript_of(
        stand_in.ari_base, VALUES.ari_user, VALUES.ari_pass, stand_in.sip_address
    )
    assert len(ours) == len(real)
    differing = [pair for pair in zip(ours, real, strict=True) if pair[0] != pair[1]]
    assert not differing
