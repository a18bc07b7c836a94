"""Calls on their way to another worker, or to another supervisor, while they go on."""

import os
import socket

from shim.control import (
    CallFigures,
    CallQuality,
    CallReleased,
    CallsNow,
    CallSpec,
    CallStats,
    EndCall,
    HeldCall,
    ReleaseCall,
    StartCall,
    StopWorker,
)
from supervisor.calls.state import Phase
from tests.shim.polling import until
from tests.supervisor.few_fds import open_fds
from tests.supervisor.stream_rig import URL, PeerWorker, StreamRig, closed

STATS = CallStats(frames_out=100, frames_in=90, lost=10)
QUALITY = CallQuality(3.1, 12.5, 240, 300, judged_s=2)


def spec_of(peer: PeerWorker, number: int = 0) -> CallSpec:
    """What a worker was told of a call."""
    return peer.started[number].call


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
        old.send(CallReleased(calls[0].call_sid, STATS, QUALITY))
        await until(lambda: new.received, "the first call")
        assert new.has(StartCall(spec_of(old), True, True, STATS, QUALITY))
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
        old.send(CallReleased(call.call_sid, STATS, QUALITY))
        await until(lambda: rig.forgotten, "forgotten")
        assert (call.stats, call.quality) == (STATS, QUALITY)
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
        old.send(CallsNow([CallFigures(call.call_sid, STATS, QUALITY, 40, stream_open=True)]))
        await until(lambda: rig.streams.figures, "the figures")
        rig.replace(0)
        old.close()
        await until(lambda: new.started, "moved")
        assert call.phase is Phase.UP
        assert new.started == [StartCall(spec_of(old), True, True, STATS, QUALITY)]


async def test_no_worker_can_say_how_a_call_was() -> None:
    """The last word of the dead one counts."""
    async with StreamRig() as rig:
        old = await rig.worker(0)
        call = rig.new_call()
        old.send(CallsNow([CallFigures(call.call_sid, STATS, QUALITY, 40, stream_open=True)]))
        await until(lambda: rig.streams.figures, "the figures")
        await rig.die(0, old)
        rig.end(call)
        await until(lambda: rig.forgotten, "forgotten")
        assert (call.stats, call.quality) == (STATS, QUALITY)


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
