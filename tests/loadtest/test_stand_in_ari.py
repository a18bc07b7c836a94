"""ARI as the stand-in speaks it: password, answers, and the events in their order."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from loadtest.stand_in import StandIn
from loadtest.stand_in_faults import Faults
from tests.loadtest.stand_in_rig import VALUES, Ari, Caller, Udp, eventually

MISSING = {"message": "Channel not found"}


async def in_app(ari: Ari, caller: Caller) -> str:
    """Make a call; the id of its channel, which is in the application."""
    await caller.call()
    return str((await ari.event("StasisStart"))["channel"]["id"])


async def kinds_until(ari: Ari, last: str, channel: str) -> list[str]:
    """The types of the events about a channel, up to and with the type `last`."""
    kinds: list[str] = []
    while not kinds or kinds[-1] != last:
        async with asyncio.timeout(5):
            event = await ari.events.get()
        if event.get("channel", {}).get("id") == channel:
            kinds.append(event["type"])
    return kinds


@pytest.mark.parametrize("path", ["/ari/asterisk/info", "/ari/events", "/ari/nowhere", "/ari"])
async def test_wrong_password_is_401(stand_in: StandIn, path: str) -> None:
    """Every ARI path asks for the password first."""
    async with Ari(stand_in.ari_base, VALUES.ari_user, "wrong") as ari:
        assert await ari.call("GET", path) == (401, {"message": "Authentication required"})


async def test_event_connection_with_wrong_password_is_401(stand_in: StandIn) -> None:
    """The WebSocket's handshake is refused, too."""
    async with Ari(stand_in.ari_base, VALUES.ari_user, "wrong") as ari:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
            await ari.session.ws_connect(f"{ari.base}/ari/events?app=voice-agent")
    assert refusal.value.status == 401


async def test_api_key_serves_as_password(stand_in: StandIn) -> None:
    """`api_key=user:password` is the other way to say who one is."""
    async with aiohttp.ClientSession() as session:
        key = f"{VALUES.ari_user}:{VALUES.ari_pass}"
        url = f"{stand_in.ari_base}/ari/asterisk/ping"
        async with session.get(url, params={"api_key": key}) as response:
            assert (await response.json())["ping"] == "pong"


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/ari/nowhere", 404, "Resource not found"),
        ("PUT", "/ari/bridges", 405, "Invalid method"),
        ("GET", "/ari/channels/none", 404, "Channel not found"),
        ("DELETE", "/ari/channels/none", 404, "Channel not found"),
        ("POST", "/ari/channels/none/continue", 404, "Channel not found"),
        ("GET", "/ari/bridges/none", 404, "Bridge not found"),
        ("DELETE", "/ari/bridges/none", 404, "Bridge not found"),
        ("POST", "/ari/bridges/none/addChannel?channel=x", 404, "Bridge not found"),
    ],
)
async def test_refusals(ari: Ari, method: str, path: str, status: int, message: str) -> None:
    """Codes and JSON bodies as Asterisk's."""
    assert await ari.call(method, path) == (status, {"message": message})


async def test_info_and_ping(ari: Ari) -> None:
    """Both name the same Asterisk."""
    _, info = await ari.call("GET", "/ari/asterisk/info")
    _, ping = await ari.call("GET", "/ari/asterisk/ping")
    assert info["system"] == {"version": "22.10.1", "entity_id": ping["asterisk_id"]}


async def test_caller_enters_the_application(ari: Ari, caller: Caller) -> None:
    """StasisStart describes the caller; GET shows the same channel."""
    await caller.call()
    event = await ari.event("StasisStart")
    channel = event["channel"]
    assert event["application"] == "voice-agent"
    assert event["args"] == ["inbound"]
    assert channel["state"] == "Up"
    assert channel["name"].startswith("PJSIP/local-phone-")
    assert channel["caller"] == {"name": "A Tester", "number": "+15550100"}
    assert channel["protocol_id"] == caller.call_id
    assert channel["dialplan"] == {
        "context": "inbound",
        "exten": "+15551234567",
        "priority": 3,
        "app_name": "Stasis",
        "app_data": "voice-agent,inbound",
    }
    assert await ari.call("GET", f"/ari/channels/{channel['id']}") == (200, channel)
    assert await ari.call("GET", "/ari/channels") == (200, [channel])


async def test_events_of_a_callers_bye(ari: Ari, caller: Caller, peer: Udp) -> None:
    """In a bridge: hang-up request, left bridge, StasisEnd, nothing more; the rest stays up."""
    channel = await in_app(ari, caller)
    await ari.call("POST", "/ari/bridges/b1", type="mixing")
    await ari.external_media("m1", peer.address)
    await ari.event("StasisStart")
    await ari.call("POST", "/ari/bridges/b1/addChannel", channel=f"{channel},m1")
    await caller.hang_up()
    assert await kinds_until(ari, "StasisEnd", channel) == [
        "ChannelEnteredBridge",
        "ChannelHangupRequest",
        "ChannelLeftBridge",
        "StasisEnd",
    ]
    assert await ari.call("GET", f"/ari/channels/{channel}") == (404, MISSING)
    _, bridge = await ari.call("GET", "/ari/bridges/b1")
    assert bridge["channels"] == ["m1"]
    await ari.call("DELETE", "/ari/channels/m1")
    assert await kinds_until(ari, "ChannelDestroyed", "m1") == [
        "ChannelHangupRequest",
        "ChannelLeftBridge",
        "StasisEnd",
        "ChannelDestroyed",
    ]
    await ari.call("DELETE", "/ari/bridges/b1")
    assert (await ari.event("BridgeDestroyed"))["bridge"]["channels"] == []


async def test_external_media_is_in_the_application_later_than_its_answer(
    stand_in: StandIn, ari: Ari, caller: Caller, peer: Udp
) -> None:
    """Added to a bridge at once it gets 422; after its StasisStart it gets in."""
    stand_in.set_faults(Faults(external_start_delay_ms=50))
    await ari.call("POST", "/ari/bridges/b1", type="mixing")
    await ari.external_media("m1", peer.address)
    assert await ari.call("POST", "/ari/bridges/b1/addChannel", channel="m1") == (
        422,
        {"message": "Channel not in Stasis application"},
    )
    assert (await ari.event("StasisStart"))["channel"]["id"] == "m1"
    assert await ari.call("POST", "/ari/bridges/b1/addChannel", channel="m1") == (204, None)


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"app": ""}, 400, "app cannot be empty"),
        ({"format": ""}, 400, "format cannot be empty"),
        ({"external_host": "127.0.0.1"}, 400, "external_host must be <host>:<port>"),
        ({"transport": "tcp"}, 400, "transport must be 'udp'"),
        ({"encapsulation": "other"}, 501, "is not supported"),
        ({"direction": "left"}, 400, "Invalid direction specified"),
        ({"external_host": "no-such-host.invalid:1"}, 500, "An internal error"),
        ({"format": "g722"}, 500, "An internal error"),
        ({"channelId": "taken"}, 500, "An internal error"),
    ],
)
async def test_external_media_refused(
    ari: Ari, peer: Udp, change: dict[str, str], status: int, message: str
) -> None:
    """What Asterisk refuses is refused, an id that is taken with 500."""
    await ari.external_media("taken", peer.address)
    given = {"app": "voice-agent", "external_host": "127.0.0.1:9", "format": "ulaw"}
    got, body = await ari.call("POST", "/ari/channels/externalMedia", **(given | change))
    assert got == status
    assert message in body["message"]


async def test_external_media_for_nobody_goes_again(stand_in: StandIn, peer: Udp) -> None:
    """Without a connected application the POST is answered, then the channel is gone."""
    async with Ari(stand_in.ari_base, VALUES.ari_user, VALUES.ari_pass) as ari:
        await ari.external_media("m1", peer.address)
        await eventually(lambda: not stand_in.state().channels)


async def test_bridge_id_is_taken_once(ari: Ari) -> None:
    """Both ways to create a bridge choose its id; a second one is 409."""
    status, bridge = await ari.call("POST", "/ari/bridges", bridgeId="b1", name="call")
    assert (status, bridge["id"], bridge["name"], bridge["channels"]) == (200, "b1", "call", [])
    conflict = (409, {"message": "Bridge with id 'b1' already exists"})
    assert await ari.call("POST", "/ari/bridges/b1", type="mixing") == conflict
    assert await ari.call("GET", "/ari/bridges") == (200, [bridge])


async def test_moving_between_bridges(ari: Ari, caller: Caller) -> None:
    """A channel leaves its bridge for another, and a bridge's end leaves it in the application."""
    channel = await in_app(ari, caller)
    for bridge in ("b1", "b2"):
        await ari.call("POST", f"/ari/bridges/{bridge}", type="mixing")
        await ari.call("POST", f"/ari/bridges/{bridge}/addChannel", channel=channel)
    wrong = await ari.call("POST", "/ari/bridges/b1/removeChannel", channel=channel)
    assert wrong == (422, {"message": "Channel not in this bridge"})
    await ari.call("DELETE", "/ari/bridges/b2")
    told = [await ari.event("ChannelEnteredBridge", "ChannelLeftBridge") for _ in range(4)]
    assert [(event["type"], event["bridge"]["id"]) for event in told] == [
        ("ChannelEnteredBridge", "b1"),
        ("ChannelLeftBridge", "b1"),
        ("ChannelEnteredBridge", "b2"),
        ("ChannelLeftBridge", "b2"),
    ]
    assert (await ari.event("BridgeDestroyed"))["bridge"]["id"] == "b2"
    assert (await ari.call("GET", f"/ari/channels/{channel}"))[0] == 200


async def test_variables(ari: Ari, caller: Caller) -> None:
    """Set, told, read back; one that was never set is 404."""
    path = f"/ari/channels/{await in_app(ari, caller)}/variable"
    assert await ari.call("POST", path, variable="COLOUR", value="green") == (204, None)
    event = await ari.event("ChannelVarset")
    assert (event["variable"], event["value"]) == ("COLOUR", "green")
    assert await ari.call("GET", path, variable="COLOUR") == (200, {"value": "green"})
    assert (await ari.call("GET", path, variable="SIZE"))[0] == 404


@pytest.mark.parametrize(
    ("reason", "status"), [({}, 204), ({"reason": "busy"}, 204), ({"reason": "boredom"}, 400)]
)
async def test_hang_up(ari: Ari, caller: Caller, reason: dict[str, str], status: int) -> None:
    """DELETE sends BYE and says so; an unknown reason changes nothing."""
    channel = await in_app(ari, caller)
    got, _ = await ari.call("DELETE", f"/ari/channels/{channel}", **reason)
    assert got == status
    if status == 204:
        request: dict[str, Any] = await ari.event("ChannelHangupRequest")
        assert (request["cause"], request["soft"]) == (32, True)
        await caller.request("BYE")


async def test_newer_subscriber_replaces_the_older(
    stand_in: StandIn, ari: Ari, caller: Caller
) -> None:
    """The older hears ApplicationReplaced, stays connected, and hears nothing more."""
    async with Ari(stand_in.ari_base, VALUES.ari_user, VALUES.ari_pass) as newer:
        async with newer.listening():
            assert (await ari.event("ApplicationReplaced"))["application"] == "voice-agent"
            await caller.call()
            await newer.event("StasisStart")
            assert ari.events.empty()
        await eventually(lambda: stand_in.state().applications == {"voice-agent": False})


async def test_calls_survive_a_lost_event_connection(stand_in: StandIn, caller: Caller) -> None:
    """Channels stay in the application; the next subscriber hears what comes, not what was."""
    async with Ari(stand_in.ari_base, VALUES.ari_user, VALUES.ari_pass) as ari:
        async with ari.listening() as reader:
            channel = await in_app(ari, caller)
            await ari.call("POST", "/stand-in/cut-events")
            await asyncio.wait_for(reader, 5)
        await eventually(lambda: not stand_in.state().applications["voice-agent"])
        async with ari.listening():
            await ari.call("POST", "/ari/bridges/b1", type="mixing")
            await ari.call("POST", "/ari/bridges/b1/addChannel", channel=channel)
            assert (await ari.events.get())["type"] == "ChannelEnteredBridge"


async def test_event_connection_needs_an_upgrade_and_an_app(ari: Ari) -> None:
    """A plain GET is 426, a WebSocket for no application 400."""
    async with ari.session.get(f"{ari.base}/ari/events?app=x") as response:
        assert response.status == 426
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        await ari.session.ws_connect(f"{ari.base}/ari/events")
    assert refusal.value.status == 400
