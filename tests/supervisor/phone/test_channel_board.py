"""What has become of channels, and who is woken by it."""

import asyncio

from supervisor.ari.events import AriEvent, Channel, Dialplan, Playback
from supervisor.phone.channel_board import ChannelBoard


def event(kind: str, state: str = "", **more: object) -> AriEvent:
    """An event of channel c."""
    return AriEvent(kind, channel=Channel("c", state=state), **more)  # type: ignore[arg-type]


def test_a_channels_life() -> None:
    """Ringing, up, in the app, a key, gone with the first cause that is known."""
    board = ChannelBoard()
    thing = board.follow("c")
    board.note(event("ChannelStateChange", "Ringing"))
    assert (thing.ringing, thing.up) == (True, False)
    board.note(event("ChannelStateChange", "Up"))
    board.note(event("StasisStart", "Up"))
    board.note(event("ChannelDtmfReceived", "Up", digit="*"))
    assert (thing.up, thing.entered, thing.keys) == (True, True, "*")
    board.note(event("ChannelHangupRequest"))
    board.note(event("ChannelDestroyed", cause=17))
    assert (thing.gone, thing.cause) == (True, 17)
    board.note(AriEvent("StasisStart", channel=Channel("other")))
    assert set(board.things) == {"c"}


async def test_waiting() -> None:
    """Who waits is woken by what changes, and by time."""
    board = ChannelBoard()
    sound = board.follow_sound("p")
    waiting = asyncio.create_task(board.until(lambda: sound.gone, ("p",)))
    await asyncio.sleep(0)
    board.note(AriEvent("PlaybackFinished", playback=Playback("p")))
    assert await waiting
    assert not await board.until(lambda: False, ("p",), 0.01)


def test_what_was_missed() -> None:
    """By Asterisk's list: what was seen and isn't there is gone; what is there may have entered."""
    board = ChannelBoard()
    gone, here, new = board.follow("gone"), board.follow("here"), board.follow("new")
    gone.up = True
    seen = board.seen()
    inside = Channel("here", state="Up", dialplan=Dialplan(app_name="Stasis", app_data="app,x"))
    board.settle([inside], "app", seen)
    assert (gone.gone, here.entered, here.up, new.gone) == (True, True, True, False)
