"""Misbehaviour on request, as fault tests of other programs will ask for it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import pytest

from loadtest.stand_in import StandIn
from loadtest.stand_in_faults import EventFault, FaultPlan, Faults, RestFault
from tests.loadtest.stand_in_rig import VALUES, Ari, Caller, Udp, eventually

PING = "/ari/asterisk/ping"


async def put_faults(ari: Ari, **faults: Any) -> None:
    async with ari.session.put(f"{ari.base}/stand-in/faults", json=faults) as response:
        assert response.status == 200, await response.text()


def test_a_rule_is_used_up_by_what_matches() -> None:
    """Method and path are patterns; the count goes down with every use; the first rule wins."""
    plan = FaultPlan()
    bridge = RestFault("status", method="POST", path="/ari/bridges/*", status=503, count=2)
    plan.set(Faults(rest=(bridge, RestFault("hang"))))
    assert plan.take_rest("POST", "/ari/bridges/b1/addChannel") == bridge
    assert plan.take_rest("GET", "/ari/bridges/b1") == RestFault("hang")
    taken = plan.take_rest("POST", "/ari/bridges/b2")
    assert taken is not None
    assert taken.status == 503
    assert plan.take_rest("POST", "/ari/bridges/b3") is None
    assert plan.faults == Faults()


def test_event_rules_match_the_type() -> None:
    """Only events of the type are taken, as often as the rule says."""
    plan = FaultPlan()
    plan.set(Faults(events=(EventFault("drop", type="Channel*", count=2),)))
    kinds = ["StasisStart", "ChannelVarset", "ChannelDestroyed", "ChannelVarset"]
    assert [plan.take_event(kind) is not None for kind in kinds] == [False, True, True, False]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ('{"rest": [{"action": "explode"}]}', "explode"),
        ('{"rest": [{"action": "hang", "count": 0}]}', "$.rest[0].count"),
        ('{"answer_delay": 5}', "answer_delay"),
        ("nonsense", "malformed"),
    ],
)
async def test_bad_faults_are_refused(ari: Ari, body: str, named: str) -> None:
    """The answer names what is wrong; the faults stay as they were."""
    await put_faults(ari, ring_ms=5)
    async with ari.session.put(f"{ari.base}/stand-in/faults", data=body) as response:
        assert response.status == 400
        assert named in (await response.json())["message"]
    _, left = await ari.call("GET", "/stand-in/faults")
    assert left["ring_ms"] == 5


async def test_rest_answers_with_a_status(ari: Ari) -> None:
    """The next requests fail, then all is well."""
    await put_faults(ari, rest=[{"action": "status", "status": 503, "path": PING, "count": 2}])
    statuses = [(await ari.call("GET", PING))[0] for _ in range(3)]
    assert statuses == [503, 503, 200]


async def test_rest_drops_the_connection(ari: Ari) -> None:
    """As at Asterisk's sessionlimit: closed without an answer. (A GET aiohttp would repeat.)"""
    await put_faults(ari, rest=[{"action": "drop", "method": "POST"}])
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await ari.call("POST", "/ari/bridges/b1")
    assert await ari.call("GET", "/ari/bridges") == (200, [])


async def test_only_the_answer_is_lost(stand_in: StandIn, ari: Ari) -> None:
    """With `done` the bridge is there although the client was told otherwise."""
    await put_faults(ari, rest=[{"action": "drop", "method": "POST", "done": True}])
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await ari.call("POST", "/ari/bridges/b1")
    assert stand_in.state().bridges == {"b1": []}


async def test_rest_hangs_until_the_faults_change(ari: Ari) -> None:
    """A request left hanging is dropped when the test has had enough."""
    await put_faults(ari, rest=[{"action": "hang", "method": "POST"}])
    hanging = asyncio.create_task(ari.call("POST", "/ari/bridges/b1"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(hanging), 0.05)
    await put_faults(ari)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await hanging


async def test_answers_are_late(ari: Ari) -> None:
    """Every answer is delayed; the event of what was done comes first."""
    await put_faults(ari, answer_delay_ms=80)
    started = time.monotonic()
    assert (await ari.call("GET", PING))[0] == 200
    assert time.monotonic() - started >= 0.08


async def test_silence(ari: Ari, caller: Caller) -> None:
    """Connections are accepted, nothing is answered: no REST, no pong, no event; calls go on."""
    async with ari.session.ws_connect(f"{ari.base}/ari/events?app=other") as socket_:
        await put_faults(ari, silent=True)
        await socket_.ping()
        await caller.call()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ari.call("GET", PING), 0.05)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ari.session.ws_connect(f"{ari.base}/ari/events?app=x"), 0.05)
        assert ari.events.empty()
        await put_faults(ari)
        await ari.event("StasisStart")
        assert (await ari.call("GET", PING))[0] == 200


async def test_pings_are_answered(ari: Ari) -> None:
    """Asterisk sends no pings of its own, but answers those of a client."""
    url = f"{ari.base}/ari/events?app=other"
    async with ari.session.ws_connect(url, autoping=False) as socket_:
        await socket_.ping(b"are you there")
        message = await socket_.receive(5)
    assert (message.type, message.data) == (aiohttp.WSMsgType.PONG, b"are you there")


async def kinds_of_a_call(ari: Ari, caller: Caller, count: int) -> list[str]:
    """The types of the events while a caller comes and goes."""
    await caller.call()
    await caller.hang_up()
    async with asyncio.timeout(5):
        return [(await ari.events.get())["type"] for _ in range(count)]


@pytest.mark.parametrize(
    ("fault", "kinds"),
    [
        ({"action": "drop"}, ["ChannelHangupRequest", "StasisEnd"]),
        (
            {"action": "duplicate"},
            ["StasisStart", "StasisStart", "ChannelHangupRequest", "StasisEnd"],
        ),
        ({"action": "reorder"}, ["ChannelHangupRequest", "StasisStart", "StasisEnd"]),
        ({"action": "delay"}, ["ChannelHangupRequest", "StasisEnd", "StasisStart"]),
    ],
)
async def test_events_go_astray(
    ari: Ari, caller: Caller, fault: dict[str, str], kinds: list[str]
) -> None:
    """One StasisStart is lost, doubled, overtaken by the next event, or by all."""
    await put_faults(ari, events=[fault | {"type": "StasisStart"}])
    assert await kinds_of_a_call(ari, caller, len(kinds)) == kinds
    assert ari.events.empty()


async def test_last_event_is_held_back_for_a_while_only(ari: Ari, caller: Caller) -> None:
    """A reordered event that no other follows comes late."""
    await put_faults(ari, events=[{"action": "reorder", "type": "StasisEnd", "delay_ms": 30}])
    kinds = ["StasisStart", "ChannelHangupRequest", "StasisEnd"]
    assert await kinds_of_a_call(ari, caller, 3) == kinds


async def test_early_stasis_start(ari: Ari, peer: Udp) -> None:
    """StasisStart of external media is there before its POST is answered."""
    await put_faults(ari, early_stasis_start=True, answer_delay_ms=60)
    answer = asyncio.create_task(ari.external_media("m1", peer.address))
    assert (await ari.event("StasisStart"))["channel"]["id"] == "m1"
    assert not answer.done()
    await answer


async def test_refused_external_media_leaves_nothing(
    stand_in: StandIn, ari: Ari, peer: Udp
) -> None:
    """External media can be refused like any other request."""
    path = "/ari/channels/externalMedia"
    await put_faults(ari, rest=[{"action": "status", "path": path}])
    status, _ = await ari.call("POST", path, channelId="m1")
    assert status == 500
    assert not stand_in.state().rtp_ports


async def test_events_can_be_refused(stand_in: StandIn) -> None:
    """The event connection's handshake fails like any other request."""
    stand_in.set_faults(Faults(rest=(RestFault("status", path="/ari/events", status=503),)))
    async with Ari(stand_in.ari_base, VALUES.ari_user, VALUES.ari_pass) as ari:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
            await ari.session.ws_connect(f"{ari.base}/ari/events?app=x")
        assert refusal.value.status == 503
        assert stand_in.state().applications == {}


async def test_slow_reader_is_cut_off(
    stand_in: StandIn, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subscriber that doesn't read loses its connection, as with websocket_write_timeout."""
    monkeypatch.setattr("loadtest.stand_in_events.WRITE_TIMEOUT_S", 0.1)
    async with (
        Ari(stand_in.ari_base, VALUES.ari_user, VALUES.ari_pass) as ari,
        ari.session.ws_connect(f"{ari.base}/ari/events?app=voice-agent"),
    ):
        await caller.call()
        (channel,) = stand_in.state().channels
        url = f"{ari.base}/ari/channels/{channel}/variable"
        large = {"variable": "LARGE", "value": "x" * 500_000}
        for _ in range(40):  # more than the kernel buffers of both ends hold
            async with ari.session.post(url, json=large) as response:
                assert response.status == 204
        await eventually(lambda: not stand_in.state().applications["voice-agent"])
