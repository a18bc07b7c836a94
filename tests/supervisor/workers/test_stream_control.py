"""Which worker serves which call: real ports, sockets and messages, workers in the test's hands."""

import msgspec
import pytest
from structlog.testing import capture_logs

from shim.control import (
    CallRefused,
    CallSpec,
    CallStats,
    EndCall,
    MediaConnected,
    PressDigit,
    SendDigits,
    StartCall,
    StartRecording,
    StopRecording,
    StreamEnded,
)
from supervisor.calls import events as ev
from supervisor.calls.state import Phase
from supervisor.workers.admission import Limits
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


async def test_recording_on_demand() -> None:
    """Its worker is told, and so is the one that takes the call later; off by default."""
    async with StreamRig() as rig:
        peer, other = await rig.worker(0), await rig.worker(1)
        call = rig.new_call()
        first, second = (peer, other) if call.worker == 0 else (other, peer)
        await until(lambda: first.started, "call")
        assert not spec_of(first).record
        rig.streams.record(call, wanted=True)
        await until(lambda: StartRecording(call.call_sid) in first.received, "start")
        await rig.die(call.worker, first)
        await until(lambda: second.started, "moved")
        assert spec_of(second).record
        rig.streams.record(call, wanted=False)
        await until(lambda: StopRecording(call.call_sid) in second.received, "stop")


async def test_all_calls_are_recorded() -> None:
    """With RECORD_CALLS each new call is."""
    async with StreamRig() as rig:
        peer = await rig.worker(0)
        rig.streams.settings = msgspec.structs.replace(rig.streams.settings, record=True)
        rig.new_call()
        await until(lambda: peer.started, "call")
        assert spec_of(peer).record


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
