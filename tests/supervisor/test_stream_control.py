"""Which worker serves which call: real ports, sockets and messages, workers in the test's hands."""

import os
import socket

import msgspec
import pytest
from structlog.testing import capture_logs

from shim.control import (
    CallRefused,
    CallReleased,
    CallSpec,
    CallStats,
    EndCall,
    HeldCall,
    MediaConnected,
    PressDigit,
    ReleaseCall,
    SendDigits,
    StartCall,
    StopWorker,
    StreamEnded,
)
from supervisor import call_events as ev
from supervisor.admission import Limits
from supervisor.call_state import Phase
from tests.shim.polling import until
from tests.supervisor.few_fds import fds_left, open_fds
from tests.supervisor.stream_rig import URL, PeerWorker, StreamRig, closed


def spec_of(peer: PeerWorker, number: int = 0) -> CallSpec:
    """What a worker was told of a call."""
    return peer.started[number].call


async def test_a_call_is_handed_to_a_worker() -> None:
    """The worker gets all it needs and the bound socket, then the media, then the end."""
    async with StreamRig() as rig:
        peer = await rig.worker(0)
        call = rig.new_call()
        await until(lambda: len(peer.received) == 2, "call and media")
        spec = spec_of(peer)
        assert peer.has(StartCall(spec), MediaConnected(call.call_sid))
        assert (spec.call_sid, spec.channel_id, spec.url) == (call.call_sid, "caller", URL)
        assert spec.custom_parameters == {"channelId": "caller", "tenant": "a"}
        assert peer.sockets[call.call_sid].getsockname() == ("127.0.0.1", call.port)
        assert peer.sockets[call.call_sid].getpeername() == ("127.0.0.1", 9)
        assert call.port in rig.ports.table.slice(0)
        rig.end(call)
        await until(lambda: peer.received[2:] == [EndCall(call.call_sid, "caller hung up")], "end")
        peer.send(closed(call))
        await until(lambda: rig.forgotten, "forgotten")
        assert rig.forgotten[0].stats == CallStats(frames_out=1)
        assert rig.ports.table.counts(0)["leased"] == 0


async def test_calls_spread_over_workers() -> None:
    """Each new call goes to the worker with the fewest."""
    async with StreamRig() as rig:
        await rig.worker(0)
        await rig.worker(1)
        workers = [rig.new_call(f"caller-{number}").worker for number in range(6)]
        assert sorted(workers) == [0, 0, 0, 1, 1, 1]


async def test_digits_and_ends_come_through() -> None:
    """Keys go to the call's worker; digits and ends of its stream come from it."""
    async with StreamRig() as rig:
        peer = await rig.worker(0)
        call = rig.new_call()
        sid = call.call_sid
        rig.happen(ev.DigitPressed("caller", "5"))
        await until(lambda: PressDigit(sid, "5") in peer.received, "digit")
        peer.send(SendDigits(sid, "12"))
        await until(lambda: ev.SendDigits(sid, "12") in rig.noted, "digits for the caller")
        peer.send(StreamEnded(sid, "closed with 1000", failed=False))
        await until(lambda: EndCall(sid, "closed with 1000") in peer.received, "end")


async def test_numbers_are_told_only_if_wanted() -> None:
    """The caller's and the called number are in the stream only on the operator's word."""
    async with StreamRig() as rig:
        peer = await rig.worker(0)
        rig.streams.settings = msgspec.structs.replace(
            rig.streams.settings, custom_parameters={}, share_numbers=True
        )
        rig.new_call()
        await until(lambda: peer.started, "call")
        assert spec_of(peer).custom_parameters == {
            "channelId": "caller",
            "from": "+15550100",
            "to": "+15551234567",
        }


@pytest.mark.parametrize("up", [False, True])
async def test_a_dead_workers_call_moves(up: bool) -> None:
    """The other worker gets the same call with the same socket, and whether media is connected."""
    async with StreamRig() as rig:
        peers = [await rig.worker(0), await rig.worker(1)]
        call = rig.new_call(up=up)
        first, other = peers[call.worker], peers[1 - call.worker]
        await until(lambda: first.started, "call")
        spec, port = spec_of(first), call.port
        await rig.die(call.worker, first)
        await until(lambda: other.received, "moved")
        assert other.has(StartCall(spec, resumed=True, media_connected=up))
        assert other.sockets[call.call_sid].getsockname() == ("127.0.0.1", port)
        assert rig.pool.slots[call.worker].takes_calls


async def test_a_call_without_any_worker_waits_for_one() -> None:
    """When no worker is left the next one that comes up gets the call, once."""
    async with StreamRig() as rig:
        peer = await rig.worker(0)
        call = rig.new_call()
        await rig.die(0, peer)
        assert call.phase is Phase.UP
        late = await rig.worker(1)
        await until(lambda: late.started, "moved")
        another = await rig.worker(0)
        assert call.worker == 1
        assert len(late.started) == 1
        await rig.die(1, late)
        await until(lambda: another.started, "moved again")
        assert len(another.started) == 1


async def test_a_call_that_ends_while_it_waits_for_a_worker() -> None:
    """It is gone at once, or as soon as Asterisk lets it, and no worker gets it any more."""
    async with StreamRig() as rig:
        peer = await rig.worker(0)
        ends, lingers = rig.new_call("ends"), rig.new_call("lingers")
        await rig.die(0, peer)
        rig.end(ends)
        assert [call.call_sid for call in rig.forgotten] == [ends.call_sid]
        rig.happen(ev.CallerLeft("lingers"))  # and Asterisk doesn't answer to the removals
        late = await rig.worker(1)
        new = rig.new_call("new")
        await until(lambda: len(late.received) == 2, "the new call")
        assert [start.call.call_sid for start in late.started] == [new.call_sid]
        rig.end(lingers)
        assert lingers in rig.forgotten


async def test_a_worker_refuses() -> None:
    """A call that its worker can't take goes back to the dialplan."""
    async with StreamRig() as rig:
        peer = await rig.worker(0)
        call = rig.new_call()
        peer.send(CallRefused(call.call_sid, "no"))
        await until(lambda: ev.ContinueCaller(call.call_sid) in rig.noted, "back in the dialplan")


async def test_no_descriptor_to_hand_a_call_over() -> None:
    """The new call goes back to the dialplan; calls that are up go on; nothing leaks."""
    async with StreamRig() as rig:
        peer = await rig.worker(0)
        up = rig.new_call("up")
        await until(lambda: len(peer.received) == 2, "the first call")
        before = open_fds()
        with fds_left(1), capture_logs() as logs:  # enough for the RTP socket, not for its copy
            refused = rig.new_call("refused", up=False)
        assert ev.ContinueCaller(refused.call_sid) in rig.noted
        assert [line["event"] for line in logs if line["log_level"] == "error"] == [
            "call_not_handed_over"
        ]
        for event in (ev.BridgeCreated, ev.MediaLegCreated):
            rig.happen(event(refused.call_sid))
        rig.end(refused)
        assert rig.forgotten == [refused]
        assert open_fds() == before
        rig.happen(ev.DigitPressed("up", "1"))
        await until(lambda: PressDigit(up.call_sid, "1") in peer.received, "goes on")
        assert len(peer.started) == 1


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(max_calls=1, asterisk_ports=4000, fds=4000), "MAX_CALLS is 1"),
        (Limits(max_calls=0, asterisk_ports=8, fds=4000), "Asterisk's 8 RTP ports"),
        (Limits(max_calls=0, asterisk_ports=4000, fds=65), "65 file descriptors"),
    ],
)
async def test_there_is_no_room(limits: Limits, reason: str) -> None:
    """A call over the limit is refused in words, the ones before go on."""
    async with StreamRig(limits) as rig:
        await rig.worker(0)
        with capture_logs() as logs:
            rig.new_call("first", up=False)
            rig.new_call("second", up=False)
        refused = [line for line in logs if line["event"] == "call_refused"]
        assert reason in refused[-1]["reason"]


async def test_nobody_takes_calls() -> None:
    """Without workers, or while draining, a caller goes back to the dialplan at once."""
    async with StreamRig() as rig:
        call = rig.new_call("nobody", up=False)
        assert rig.noted == [ev.ContinueCaller(call.call_sid)]
        assert "no worker has room" in call.reason
        await rig.worker(0)
        rig.streams.draining = True
        assert rig.new_call("late", up=False).reason == "refused: draining"


# A worker is replaced


async def test_a_replaced_workers_calls_move_one_by_one() -> None:
    """The new worker gets a call when the old one has let go of it; then the old one may go."""
    async with StreamRig() as rig:
        old = await rig.worker(0)
        calls = [rig.new_call("one"), rig.new_call("two")]
        await until(lambda: len(old.received) == 4, "calls")
        new = await rig.worker(0, seat=1)
        rig.replace(0)
        await until(lambda: len(old.received) == 6, "releases")
        assert old.received[4:] == [ReleaseCall(call.call_sid) for call in calls]
        assert new.received == []
        old.send(CallReleased(calls[0].call_sid, CallStats()))
        await until(lambda: new.received, "the first call")
        first = StartCall(spec_of(old), resumed=True, media_connected=True)
        assert new.has(first)
        assert StopWorker() not in old.received
        old.send(CallReleased(calls[1].call_sid, CallStats()))
        await until(lambda: old.received[-1] == StopWorker(), "dismissed")
        await until(lambda: len(new.started) == 2, "the second call")
        assert all(call.phase is Phase.UP for call in calls)


async def test_a_worker_without_calls_may_go_at_once() -> None:
    """There is nothing to move."""
    async with StreamRig() as rig:
        old = await rig.worker(0)
        await rig.worker(0, seat=1)
        rig.replace(0)
        await until(lambda: old.has(StopWorker()), "dismissed")


async def test_a_call_ends_while_it_moves() -> None:
    """The new worker never gets it, and the old one may go."""
    async with StreamRig() as rig:
        old = await rig.worker(0)
        call = rig.new_call()
        new = await rig.worker(0, seat=1)
        rig.replace(0)
        rig.end(call)
        old.send(CallReleased(call.call_sid, CallStats(frames_out=7)))
        await until(lambda: rig.forgotten, "forgotten")
        assert call.stats == CallStats(frames_out=7)
        await until(lambda: old.received[-1] == StopWorker(), "dismissed")
        assert new.received == []


async def test_a_call_was_ending_when_its_worker_is_replaced() -> None:
    """Its end is on the way to the old worker, which has nothing to release any more."""
    async with StreamRig() as rig:
        old = await rig.worker(0)
        call = rig.new_call()
        new = await rig.worker(0, seat=1)
        rig.end(call)
        rig.replace(0)
        await until(lambda: ReleaseCall(call.call_sid) in old.received, "release")
        old.send(closed(call))
        await until(lambda: rig.forgotten, "forgotten")
        await until(lambda: old.received[-1] == StopWorker(), "dismissed")
        assert new.received == []


async def test_the_old_worker_dies_while_its_calls_move() -> None:
    """The new worker gets what the old one still had."""
    async with StreamRig() as rig:
        old = await rig.worker(0)
        call = rig.new_call()
        new = await rig.worker(0, seat=1)
        rig.replace(0)
        old.close()
        await until(lambda: new.started, "moved")
        assert call.phase is Phase.UP
        assert len(new.started) == 1


async def test_the_new_worker_dies_while_calls_move() -> None:
    """What was not moved yet goes to any other worker, as soon as the old one lets go."""
    async with StreamRig() as rig:
        old = await rig.worker(0)
        call = rig.new_call()
        new = await rig.worker(0, seat=1)
        other = await rig.worker(1)
        rig.replace(0)
        await rig.die(0, new)
        assert other.received == []
        old.send(CallReleased(call.call_sid, CallStats()))
        await until(lambda: other.started, "moved")
        assert call.worker == 1


# After a restart of the supervisor


def held_call(rig: StreamRig, sid: str, port: int) -> CallSpec:
    """What a worker knows of a call that an earlier supervisor gave it."""
    return CallSpec(sid, "MZ1", "AC0", f"channel-{sid}", port, URL, 1, 2, 3, 4, {})


async def test_a_call_is_adopted() -> None:
    """It is up, its socket is held, its port leased, and it ends as any other."""
    async with StreamRig() as rig:
        port = rig.ports.table.slice(0)[3]
        spec = held_call(rig, "CA9", port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtp:
            rtp.bind(("127.0.0.1", port))
            peer = await rig.worker(0, calls=1)
            peer.send_with(HeldCall(spec, connected=True), rtp)
            await until(lambda: rig.table.calls, "adopted")
        call = rig.table.calls["CA9"]
        assert (call.phase, call.worker, call.port) == (Phase.UP, 0, port)
        assert rig.ports.table.counts(0)["leased"] == 1
        other = await rig.worker(1)
        await rig.die(0, peer)
        await until(lambda: other.started, "moved")
        assert other.started == [StartCall(spec, resumed=True, media_connected=True)]
        assert os.fstat(other.sockets["CA9"].fileno())
        rig.end(call)
        other.send(closed(call))
        await until(lambda: rig.forgotten, "forgotten")
        assert rig.ports.table.counts(0)["leased"] == 0


async def test_an_interrupted_set_up_is_not_adopted() -> None:
    """A call without its media address is ended at its worker; nothing is kept of it."""
    async with StreamRig() as rig:
        before = open_fds()
        spec = held_call(rig, "CA9", rig.ports.table.slice(0)[3])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtp:
            peer = await rig.worker(0, calls=1)
            connected = open_fds()
            peer.send_with(HeldCall(spec, connected=False), rtp)
            await until(lambda: peer.received, "ended")
            assert open_fds() == connected
        assert peer.has(EndCall("CA9", "set-up was interrupted"))
        assert rig.table.calls == {}
        assert before < connected
