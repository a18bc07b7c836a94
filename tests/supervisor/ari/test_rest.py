"""ARI's REST calls against a server that answers as Asterisk does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from supervisor.ari.connection import AriSettings
from supervisor.ari.events import (
    AriAbsent,
    Bridge,
    Channel,
    ChannelNotInStasis,
    media_address,
)
from supervisor.ari.rest import AriRest
from tests.supervisor.ari_server import (
    APP,
    PASSWORD,
    USER,
    AriServer,
    says,
)

INFO = "GET /asterisk/info"
GOOD_INFO = says(200, '{"system":{"version":"22.10.1"}}')


@pytest.fixture
async def server() -> AsyncIterator[AriServer]:
    """An ARI that answers 204 to everything that the test doesn't script."""
    async with AriServer() as running:
        yield running


@pytest.fixture
async def rest(server: AriServer) -> AsyncIterator[AriRest]:
    """The calls, in no hurry."""
    rest = AriRest(AriSettings(server.base, USER, PASSWORD, APP))
    yield rest
    await rest.close()


@pytest.mark.parametrize(
    ("call", "method", "path", "query"),
    [
        (
            lambda rest: rest.add_to_bridge("b-1", "17.5", "m-1"),
            "POST",
            "/bridges/b-1/addChannel",
            {"channel": "17.5,m-1"},
        ),
        (lambda rest: rest.delete_bridge("b-1"), "DELETE", "/bridges/b-1", {}),
        (
            lambda rest: rest.delete_channel("17.5"),
            "DELETE",
            "/channels/17.5",
            {"reason": "normal"},
        ),
        (
            lambda rest: rest.delete_channel("17.5", "busy"),
            "DELETE",
            "/channels/17.5",
            {"reason": "busy"},
        ),
        (lambda rest: rest.answer("17.5"), "POST", "/channels/17.5/answer", {}),
        (lambda rest: rest.continue_in_dialplan("17.5"), "POST", "/channels/17.5/continue", {}),
        (
            lambda rest: rest.send_dtmf("17.5", "1*#"),
            "POST",
            "/channels/17.5/dtmf",
            {"dtmf": "1*#"},
        ),
        (
            lambda rest: rest.set_variable("17.5", "CALLERID(name)", "a+b &=ü"),
            "POST",
            "/channels/17.5/variable",
            {"variable": "CALLERID(name)", "value": "a+b &=ü"},
        ),
        (lambda rest: rest.answer("a/b ü?"), "POST", "/channels/a%2Fb%20%C3%BC%3F/answer", {}),
    ],
)
async def test_what_is_asked(
    server: AriServer,
    rest: AriRest,
    call: Callable[[AriRest], Awaitable[None]],
    method: str,
    path: str,
    query: dict[str, str],
) -> None:
    """Each call is one request of the documented path and parameters, its values quoted."""
    await call(rest)
    assert server.seen == [(method, path, query)]


async def test_create_external_media(server: AriServer, rest: AriRest) -> None:
    """The media leg goes to our app, and the answer says where its RTP is."""
    server.script["POST /channels/externalMedia"] = [
        says(
            200,
            '{"id":"m-1","channelvars":{"UNICASTRTP_LOCAL_ADDRESS":"127.0.0.1",'
            '"UNICASTRTP_LOCAL_PORT":"10000"}}',
        )
    ]
    channel = await rest.create_external_media("m-1", "127.0.0.1:40000", app_args="media,17.5")
    assert media_address(channel) == ("127.0.0.1", 10000)
    query = {
        "channelId": "m-1",
        "app": APP,
        "external_host": "127.0.0.1:40000",
        "format": "ulaw",
        "encapsulation": "rtp",
        "transport": "udp",
        "direction": "both",
        "data": "media,17.5",
    }
    assert server.seen == [("POST", "/channels/externalMedia", query)]


async def test_reading(server: AriServer, rest: AriRest) -> None:
    """Lists, a channel, a variable and the information about Asterisk are typed values."""
    server.script["GET /channels"] = [says(200, '[{"id":"1"},{"id":"2","state":"Up"}]')]
    server.script["GET /bridges"] = [says(200, '[{"id":"b","channels":["1"]}]')]
    server.script["GET /channels/1"] = [says(200, '{"id":"1"}')]
    server.script["GET /channels/1/variable"] = [says(200, '{"value":"x"}')]
    server.script[INFO] = [GOOD_INFO]
    assert await rest.list_channels() == [Channel("1"), Channel("2", state="Up")]
    assert await rest.list_bridges() == [Bridge("b", channels=("1",))]
    assert await rest.get_channel("1") == Channel("1")
    assert await rest.get_variable("1", "X") == "x"
    assert (await rest.info()).system.version == "22.10.1"


async def test_what_is_not_there(server: AriServer, rest: AriRest) -> None:
    """Removing it counts as done, reading it gives None, using it is an error."""
    absent = [says(404, '{"message":"Channel not found"}')]
    for request in (
        "DELETE /channels/1",
        "DELETE /bridges/1",
        "GET /channels/1",
        "GET /channels/1/variable",
        "POST /channels/1/answer",
    ):
        server.script[request] = absent
    await rest.delete_channel("1")
    await rest.delete_bridge("1")
    assert await rest.get_channel("1") is None
    assert await rest.get_variable("1", "X") is None
    with pytest.raises(AriAbsent, match="POST /channels/1/answer was answered with 404: Channel"):
        await rest.answer("1")
    assert rest.counters.requests["delete_channel", "absent"] == 1


async def test_a_bridge_that_exists(server: AriServer, rest: AriRest) -> None:
    """Creating a bridge twice, as after a lost answer, gives the one that there is."""
    server.script["POST /bridges/b"] = [says(200, '{"id":"b"}'), says(409, '{"message":"exists"}')]
    server.script["GET /bridges/b"] = [says(200, '{"id":"b","channels":["1"]}')]
    assert await rest.create_bridge("b") == Bridge("b")
    assert await rest.create_bridge("b") == Bridge("b", channels=("1",))
    assert server.seen[0] == ("POST", "/bridges/b", {"type": "mixing"})


async def test_a_channel_that_has_not_started(server: AriServer, rest: AriRest) -> None:
    """addChannel before the StasisStart has an error of its own."""
    server.script["POST /bridges/b/addChannel"] = [
        says(422, '{"message":"Channel not in Stasis application"}')
    ]
    with pytest.raises(ChannelNotInStasis):
        await rest.add_to_bridge("b", "m-1")
    assert rest.counters.requests == {("add_to_bridge", "not_in_stasis"): 1}


async def test_an_empty_id(server: AriServer, rest: AriRest) -> None:
    """It would mean another resource, so nothing is sent."""
    with pytest.raises(ValueError, match="an id in the ARI path 'channels/' is empty"):
        await rest.delete_channel("")
    assert server.seen == []


async def test_connections_are_kept(server: AriServer, rest: AriRest) -> None:
    """One request after the other goes over the same connection."""
    for _ in range(10):
        await rest.answer("1")
    assert list(server.peers.values()) == [10]


async def test_connections_are_limited(server: AriServer) -> None:
    """More requests than connections wait for each other."""
    rest = AriRest(AriSettings(server.base, USER, PASSWORD, APP, connections=2))
    await asyncio.gather(*(rest.answer(str(n)) for n in range(50)))
    await rest.close()
    assert len(server.seen) == 50
    assert server.most_at_once <= 3  # the third is for the events
    assert len(server.peers) <= 3
