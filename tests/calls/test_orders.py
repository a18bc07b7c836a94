"""What can be done with a call that is up, as the phones hear it, on the real Asterisk."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from loadtest import audio, recording
from loadtest.callee_plan import CalleePlan
from loadtest.sip_phone import TakenCall
from supervisor.phone.phone_call import (
    AddParty,
    CallQuery,
    CallStatus,
    CancelTransfer,
    CompleteTransfer,
    Hangup,
    Hold,
    Mute,
    PhoneCall,
    PlayDigits,
    Transfer,
)
from tests.calls.rig import NUMBER, SILENCE, PhoneRig, phone_rig, tone

pytestmark = [pytest.mark.asterisk, pytest.mark.usefixtures("asterisk_rootfs")]


@asynccontextmanager
async def streaming() -> AsyncIterator[tuple[PhoneRig, PhoneCall, TakenCall]]:
    """A placed call whose party says 400 Hz, and hears the stream echo that."""
    async with phone_rig() as rig:
        rig.phone.callee = CalleePlan(audio=tone(400), audio_loop=True)
        call = await rig.create()
        party = await rig.taken()
        await rig.until_hears(party, 400)
        yield rig, call, party
        await rig.until_empty()


def answering_with(rig: PhoneRig, hz: float) -> None:
    """Whoever is called next says this."""
    rig.phone.callee = CalleePlan(audio=tone(hz), audio_loop=True)


def hears_music(party: TakenCall) -> bool:
    """Whether the last second has notes of the hold music."""
    heard = recording.tones_hz(recording.timeline(party.heard_since(0)[-50:]), min_share=0.3)
    return bool(heard) and all(min(abs(t - hz) for hz in (262, 330, 392, 523)) < 20 for t in heard)


async def test_blind_transfer() -> None:
    """The other side talks with the target; the stream is over, and the target's end is the end."""
    async with streaming() as (rig, call, party):
        answering_with(rig, 700)
        await rig.calls.direct(call.sid, Transfer(NUMBER))
        target = await rig.taken()
        await rig.until_hears(party, 700)
        await rig.until_hears(target, 400)
        target.hang_up()
        await rig.until_status(call.sid, CallStatus.COMPLETED)


async def test_attended_transfer() -> None:
    """The party has music while the stream talks with the target; then the two talk."""
    async with streaming() as (rig, call, party):
        answering_with(rig, 700)
        for completing in (False, True):
            await rig.calls.direct(call.sid, Transfer(NUMBER, attended=True))
            target = await rig.taken()
            await rig.until_hears(target, 700)  # its own voice: the stream echoes it
            await rig.until(lambda: hears_music(party), "music")
            if not completing:
                await rig.calls.direct(call.sid, CancelTransfer())
                await rig.until_hears(party, 400)
        await rig.calls.direct(call.sid, CompleteTransfer())
        await rig.until_hears(party, 700)
        await rig.until_hears(target, 400)
        await rig.calls.direct(call.sid, Hangup())


async def test_hold_and_mute() -> None:
    """On hold the party hears music and the stream silence; a muted stream isn't heard."""
    async with streaming() as (rig, call, party):
        await rig.calls.direct(call.sid, Hold(on=True))
        await rig.until(lambda: hears_music(party), "music")
        await rig.until(lambda: set(b"".join(rig.site.heard)) <= SILENCE, "silence")
        await rig.calls.direct(call.sid, Hold(on=False))
        await rig.until_hears(party, 400)
        await rig.calls.direct(call.sid, Mute(on=True))
        await rig.until_quiet(party)
        await rig.calls.direct(call.sid, Mute(on=False))
        await rig.until_hears(party, 400)
        await rig.calls.direct(call.sid, PlayDigits("12w3"))
        await rig.until(lambda: keys_heard(party) == 3, "three key presses")
        party.hang_up()


async def test_conference_and_takeover() -> None:
    """Three hear each other; one who takes over has the party without the stream."""
    async with streaming() as (rig, call, party):
        answering_with(rig, 1000)
        await rig.calls.direct(call.sid, AddParty(NUMBER))
        third = await rig.taken()
        rig.site.says = tone(1300)[:160]  # no echo: that could cancel out what it echoes
        await rig.until_hears(party, 1000, 1300)
        await rig.until_hears(third, 400, 1300)
        await rig.until(lambda: stream_hears(rig, 400, 1000), "the stream hears both")
        third.hang_up()
        await rig.until_hears(party, 1300)
        answering_with(rig, 700)
        await rig.calls.direct(call.sid, AddParty(NUMBER, instead=True))
        human = await rig.taken()
        await rig.until_hears(party, 700)
        await rig.until_hears(human, 400)
        legs = rig.calls.find(CallQuery(parent_sid=call.sid))
        assert [leg.status for leg in legs] == [CallStatus.IN_PROGRESS, CallStatus.COMPLETED]
        party.hang_up()


def keys_heard(party: TakenCall) -> int:
    """How many key presses have come (RFC 4733: the packets of one share a timestamp)."""
    return len({packet.timestamp for packet in party.heard_since(0) if packet.payload_type != 0})


def stream_hears(rig: PhoneRig, *tones_hz: float) -> bool:
    """Whether the stream has heard these tones for a second."""
    heard = recording.tones_hz(audio.decode(b"".join(rig.site.heard)))
    return all(any(abs(each - hz) < 15 for each in heard) for hz in tones_hz)
