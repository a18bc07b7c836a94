"""The link to ARI with a real Asterisk at its other end."""

import os
import signal
import socket
from collections.abc import Iterator
from uuid import uuid4

import pytest

from supervisor.ari.events import REPLACED, AriRefused, media_address
from supervisor.ari.link import TAKEN_OVER
from tests.asterisk_instance import AsteriskInstance
from tests.supervisor.ari_server import until
from tests.supervisor.link_owner import UP, Owner, running

pytestmark = pytest.mark.asterisk


@pytest.fixture
def external_host() -> Iterator[str]:
    """Where a media leg may send its RTP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as media:
        media.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{media.getsockname()[1]}"


def owner_at(asterisk: AsteriskInstance, **changes: object) -> Owner:
    """An owner whose link leads to the instance."""
    values = {"user": asterisk.user, "password": asterisk.password, "app": asterisk.app}
    return Owner(asterisk.ari_base, **{**values, **changes})


async def media_leg_lives(owner: Owner, external_host: str) -> None:
    """Make a media leg, see its events come to the owner, and remove it again."""
    leg_id, heard = uuid4().hex, len(owner.told)
    channel = await owner.link.create_external_media(leg_id, external_host, app_args="media,7")
    assert media_address(channel)[0] == "127.0.0.1"
    await until(lambda: "StasisStart" in owner.events_since(heard))
    await owner.link.delete_channel(leg_id)
    await until(lambda: "ChannelDestroyed" in owner.events_since(heard))


async def test_a_media_leg_and_a_bridge(asterisk: AsteriskInstance, external_host: str) -> None:
    """What the set-up of a call needs is made, joined, looked at, and removed again."""
    leg_id, bridge_id = f"media/{uuid4().hex}", f"bridge/{uuid4().hex}"
    owner = owner_at(asterisk)
    async with running(owner):
        await until(owner.ups)
        link = owner.link
        assert (await link.info()).system.version
        await link.create_bridge(bridge_id)
        await link.create_bridge(bridge_id)
        channel = await link.create_external_media(leg_id, external_host, app_args="media,7")
        assert media_address(channel)[1] in asterisk.rtp_ports
        await until(lambda: "StasisStart" in owner.events)
        await link.add_to_bridge(bridge_id, leg_id)
        await until(lambda: "ChannelEnteredBridge" in owner.events)
        assert [b.channels for b in await link.list_bridges() if b.id == bridge_id] == [(leg_id,)]
        found = await link.get_channel(leg_id)
        assert found is not None
        assert found.dialplan.app_data == f"{asterisk.app},media,7"
        assert found in await link.list_channels()
        await link.set_variable(leg_id, "OTS_TEST", "a+b &=ü")
        assert await link.get_variable(leg_id, "OTS_TEST") == "a+b &=ü"
        await link.delete_channel(leg_id)
        await link.delete_bridge(bridge_id)
        await until(lambda: {"ChannelDestroyed", "BridgeDestroyed"} <= set(owner.events))
        assert await link.get_channel(leg_id) is None
        await link.delete_channel(leg_id)
        await link.delete_bridge(bridge_id)


async def test_refusals(asterisk: AsteriskInstance) -> None:
    """What Asterisk refuses is an error with its own words."""
    owner = owner_at(asterisk)
    async with running(owner):
        await until(owner.ups)
        with pytest.raises(AriRefused, match="400: external_host must be <host>:<port>"):
            await owner.link.create_external_media(uuid4().hex, "127.0.0.1")
        assert await owner.link.get_variable("nobody", "X") is None
        with pytest.raises(AriRefused, match="404: Channel not found"):
            await owner.link.continue_in_dialplan("nobody")


async def test_wrong_password(asterisk: AsteriskInstance) -> None:
    """Asterisk's 401 is told to the owner in words, and refuses every call."""
    owner = owner_at(asterisk, password="wrong")
    async with running(owner):
        await until(lambda: owner.states == [(False, "wrong user or password (401)")])
        with pytest.raises(AriRefused, match="401: Authentication required"):
            await owner.link.info()


async def test_a_newer_link_takes_over(asterisk: AsteriskInstance, external_host: str) -> None:
    """The older one hears of it and stands down; the app stays with the newer one."""
    older, newer = owner_at(asterisk), owner_at(asterisk)
    older.reactions[REPLACED] = older.link.stand_down
    async with running(older) as task:
        await until(older.ups)
        async with running(newer):
            await until(lambda: task.done())
            assert older.states == [UP, (False, TAKEN_OVER)]
            await media_leg_lives(newer, external_host)
            assert newer.states == [UP]
    assert older.events == [REPLACED]


async def test_asterisk_hangs(asterisk: AsteriskInstance, external_host: str) -> None:
    """When it goes on, what it finds of our attempts must not take the app from our connection."""
    assert asterisk.process is not None
    owner = owner_at(asterisk, request_timeout_s=0.3, ping_idle_s=0.2, ping_reply_s=0.3)
    async with running(owner):
        await until(owner.ups)
        os.kill(asterisk.process.pid, signal.SIGSTOP)
        try:
            await until(lambda: owner.link.counters.failed_connects >= 3)
        finally:
            os.kill(asterisk.process.pid, signal.SIGCONT)
        assert owner.states[1] == (False, "no answer to a ping within 0.3 s")
        await until(lambda: owner.ups() >= 2, seconds=10)
        await media_leg_lives(owner, external_host)
    assert REPLACED not in owner.events
