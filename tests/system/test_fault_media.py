"""Faults of media, on the whole system with the real Asterisk: rows 11 to 13, 23 and 24."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from loadtest import audio, recording
from shim import rtp_packet
from shim.pcmu import FRAME_BYTES
from tests.supervisor.stack import RunningStack
from tests.system import flood, wire
from tests.system.wire import Passing, RtpTap

pytestmark = pytest.mark.asterisk

OLD_HZ, NEW_HZ = 900.0, 600.0
GREETING_S = 2.2
PER_SECOND = 10_000
FLOOD_S = 2.0
PORT_RESTS_S = 2.1
"""A port rests for 2 s when its slice has no other."""
ASTERISK_CALLS = 10
"""80 ports, 4 for each call, less the reserve of 40."""


@pytest.fixture(scope="module")
def stack(asterisk_rootfs: Path) -> Iterator[RunningStack]:
    """The whole system, which tests leave as it was."""
    with RunningStack(real=True) as running:
        yield running
    assert "Traceback" not in running.supervisor.log


async def test_all_ports_are_used(asterisk_rootfs: Path) -> None:
    """Row 11: the other worker's slice helps out, then callers are refused at once; no leak."""
    settings = {"RTP_PORT_START": "22500", "RTP_PORT_END": "22502"}
    with RunningStack(real=True, settings=settings) as stack:
        slices = [worker["ports"]["last"] - worker["ports"]["first"] for worker in stack.workers()]
        assert slices == [0, 1]
        for _ in range(2):
            async with stack.calling() as one, stack.calling() as two, stack.calling() as three:
                await stack.until_up(3)
                assert stack.leased_ports() == 3
                began = time.monotonic()
                await stack.check_refused()
                assert time.monotonic() - began < 2
                for call in (one, two, three):
                    await stack.until_audio(call)
            await rest(stack)


async def rest(stack: RunningStack) -> None:
    """Wait until the last call is over, and its port may be used again."""
    await stack.until_idle()
    rested_at = time.monotonic() + PORT_RESTS_S
    await stack.until(lambda: time.monotonic() > rested_at, "the port has rested")


@pytest.mark.parametrize("who", ["supervisor", "asterisk"])
async def test_asterisk_runs_out_of_ports(asterisk_rootfs: Path, who: str) -> None:
    """Row 12: admission stops before the range is used up: ours, or Asterisk's own `maxcalls`."""
    few = {"ASTERISK_RTP_START": "9400", "ASTERISK_RTP_END": "9479"}
    with RunningStack(real=True, settings=few if who == "asterisk" else {}) as stack:
        if who == "supervisor":
            await stack.stop_supervisor()
            stack.for_supervisor |= few
            await asyncio.to_thread(stack.start_supervisor)
        pid = stack.asterisk.pid
        calls = [asyncio.create_task(stack.call(seconds=5.0)) for _ in range(ASTERISK_CALLS)]
        await stack.until_up(ASTERISK_CALLS)
        surplus = await asyncio.gather(*(stack.call(seconds=5.0) for _ in range(5)))
        ends = {(record.outcome, record.status, record.ended_by) for record in surplus}
        assert ends <= {("refused", 503, None), ("answered", 200, "callee")}
        records = await asyncio.gather(*calls)
        assert all(record.ended_by == "caller" for record in records)
        assert all(recording.continuity(record.packets).lost == 0 for record in records)
        await stack.until_idle()
        assert stack.asterisk.pid == pid
        async with stack.calling() as call:
            await stack.until_audio(call)
        await stack.until_idle()


async def test_a_port_is_used_again(asterisk_rootfs: Path) -> None:
    """Row 13: RTP of an old call goes on and on, before, in and after the new call's set-up.

    There is one port only, so both have the same. The new caller hears only their own echo.
    """
    settings = {"WORKERS": "1", "RTP_PORT_START": "22600", "RTP_PORT_END": "22600"}
    with RunningStack(real=True, settings=settings) as stack:
        async with stack.calling() as old:
            await stack.until_audio(old)
        async with flood.from_elsewhere(("127.0.0.1", 22600), late_packet, per_second=500):
            await rest(stack)
            said = audio.silence(GREETING_S) + audio.tone(NEW_HZ, 1.0)
            record = await stack.call(audio=said, seconds=4.6)
        assert [line["port"] for line in stack.events("call_placed")] == [22600, 22600]
        after_ns = int(((record.answered_at or 0.0) + GREETING_S) * 1e9)
        heard = [packet for packet in record.packets if packet.at_ns >= after_ns]
        assert recording.hears_only(recording.timeline(heard), NEW_HZ)
        assert stack.events("call_ended")[-1]["frames_in"] <= record.sent_packets
        await stack.until_idle()


def late_packet(number: int) -> bytes:
    """The n-th packet of the old call: a tone."""
    sound = audio.tone(OLD_HZ, 1.0)
    start = number % 50 * FRAME_BYTES
    return rtp_packet.build(
        number % 65536, number * FRAME_BYTES % (1 << 32), 7, sound[start : start + FRAME_BYTES]
    )


def garbage(number: int) -> bytes:
    """The n-th datagram that is no RTP."""
    return number.to_bytes(8, "big") * 20


@pytest.mark.parametrize("source", ["another address", "Asterisk"])
async def test_a_flood(stack: RunningStack, source: str) -> None:
    """Rows 23 and 24: 10,000 packets of garbage a second at a call's port; pacing unchanged.

    From elsewhere the kernel drops them; in Asterisk's name they are counted, and hardly logged.
    """
    with RtpTap(range(20_000, 22_000)) as tap:
        async with stack.calling() as victim, stack.calling() as other:
            await stack.until_up(2)
            ports = [line["port"] for line in stack.events("call_placed")[-2:]]
            await stack.until(lambda: all(tap.streams(ports)), "both send")
            sent = tap.streams(ports)[0][-1]
            lines = len(stack.supervisor.log.splitlines())
            async with attack(source, sent):
                until = time.monotonic() + FLOOD_S
                await stack.until(lambda: time.monotonic() > until, "the flood's end")
            assert len(stack.supervisor.log.splitlines()) - lines <= FLOOD_S + 1
            await stack.until_audio(victim)
        heard = recording.continuity((await other.record).packets)
    assert (heard.lost, heard.ssrc_changes) == (0, 0)
    for stream in tap.streams(ports):
        assert wire.breaks(stream) == []
        assert wire.missing_frames(stream) < 10
    await stack.until_idle()
    malformed = {line["malformed"] > 100 for line in stack.events("call_ended")[-2:]}
    assert malformed == ({False} if source == "another address" else {False, True})


def attack(source: str, sent: Passing) -> AbstractAsyncContextManager[None]:
    """Garbage to the port that a packet came from."""
    target = ("127.0.0.1", sent.source)
    if source == "Asterisk":
        asterisk = ("127.0.0.1", sent.target)
        return flood.in_the_name_of(asterisk, target, garbage, PER_SECOND)
    return flood.from_elsewhere(target, garbage, PER_SECOND)
