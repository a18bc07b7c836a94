"""Faults of the supervisor and of the voice server, on the whole system with the real Asterisk."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest import recording
from loadtest.phone_plan import CallRecord
from tests.supervisor.stack import FALLBACK_HZ, RunningStack, hears
from tests.system import callers, wire
from tests.system.wire import RtpTap

pytestmark = pytest.mark.asterisk

CALLS = 20
ADOPTED_WITHIN_S = 3.0
DRAIN_S = 4.0
DRAIN_LIMIT_S = 10.0
CONNECT_BUDGET_S = 2


@pytest.fixture
def stack(asterisk_rootfs: Path) -> Iterator[RunningStack]:
    """The whole system. Time is short: for a drain, a caller without an agent, a lost stream."""
    settings = {
        "DRAIN_SECONDS": str(DRAIN_S),
        "AGENT_WAIT_SECONDS": "1",
        "STREAM_CONNECT_BUDGET": str(CONNECT_BUDGET_S),
    }
    with RunningStack(real=True, settings=settings) as running:
        yield running
    assert "Traceback" not in running.supervisor.log


def ends_in_the_dialplan(record: CallRecord, since_ns: int = 0) -> bool:
    """Whether the caller was answered, and in the end heard the dialplan's tone, and its end."""
    last = [packet for packet in record.packets if packet.at_ns > since_ns][-50:]
    tone = recording.power_share(recording.timeline(last), FALLBACK_HZ) > 0.5
    return record.outcome == "answered" and record.ended_by == "callee" and tone


async def test_audio_while_the_supervisor_is_dead(stack: RunningStack) -> None:
    """Row 6: not a frame is missing towards Asterisk; adopted within 3 s; no orphans."""
    with RtpTap(range(int(stack.environment["RTP_PORT_START"]), 22_000)) as tap:
        calling = asyncio.create_task(callers.place(stack.sip_uri, CALLS, 6.0, 20.0))
        await stack.until_up(CALLS)
        ports = [line["port"] for line in stack.events("call_placed")]
        await stack.until(lambda: all(tap.streams(ports)), "a call in its set-up is not adopted")
        began = time.monotonic()
        stack.supervisor.kill()
        stack.supervisor.start(stack.environment)
        await stack.until(lambda: len(stack.events("call_adopted")) == CALLS, "adopted")
        assert time.monotonic() - began < ADOPTED_WITHIN_S
        await stack.until(stack.is_ok, "connected to Asterisk")
        records = await calling
    assert callers.wrong(records) == []
    streams = tap.streams(ports)
    assert len(streams) == CALLS
    assert [broken for stream in streams for broken in wire.breaks(stream)] == []
    # A busy machine may hold a worker up for a moment; without a supervisor it would be seconds.
    assert max(wire.missing_frames(stream) for stream in streams) < 10
    assert not stack.events("orphan_removed")
    await stack.until_idle()


async def test_sigterm_under_load(stack: RunningStack) -> None:
    """Row 7: no new calls, old ones finish, the deadline ends the others; exit code 0."""
    brief = [asyncio.create_task(stack.call(seconds=2.0)) for _ in range(5)]
    long = [asyncio.create_task(stack.call()) for _ in range(5)]
    await stack.until_up(10)
    began = time.monotonic()
    stack.supervisor.send(signal.SIGTERM)
    await stack.until(lambda: stack.health()["status"] == "draining", "draining")
    assert ends_in_the_dialplan(await stack.call())
    assert stack.health()["active_sessions"] >= 5
    assert all(record.ended_by == "caller" for record in await asyncio.gather(*brief))
    assert await stack.exit_code() == 0
    assert DRAIN_S <= time.monotonic() - began < DRAIN_LIMIT_S
    assert all(ends_in_the_dialplan(record) for record in await asyncio.gather(*long))
    await stack.until(lambda: not any(stack.left_in_asterisk().values()), "Asterisk is empty")
    assert stack.worker_pids() == []
    assert not stack.run_dir.exists()


async def test_a_second_supervisor(stack: RunningStack) -> None:
    """Row 8: the newer one wins, callers of the older one are served on, and nothing flaps."""
    with RunningStack(start=()) as newer:
        names = ("ARI_BASE", "ARI_USER", "ARI_PASS", "ECS_MEDIA_WSS_URL")
        newer.environment |= {name: stack.environment[name] for name in names}
        newer.environment |= {"RTP_PORT_START": "22000", "RTP_PORT_END": "22100"}
        async with stack.calling() as call:
            await stack.until_up()
            await asyncio.to_thread(newer.start_supervisor)
            await stack.until(lambda: stack.health()["status"] == "draining", "it gives way")
            await newer.until_up(1)
            await newer.until_audio(call)
            async with newer.calling(to=stack.sip_uri) as another:
                await newer.until_up(2)
                await newer.until_audio(another)
            assert stack.health()["active_sessions"] == 0
            assert newer.is_ok()
        assert (await call.record).ended_by == "caller"
        await newer.until_idle()
        assert len(stack.events("ari_connected")) == len(newer.events("ari_connected")) == 1
        assert len(stack.events("replaced_by_another_supervisor")) == 1
        assert not newer.events("replaced_by_another_supervisor")


async def test_nobody_comes_back(stack: RunningStack) -> None:
    """A caller who finds no supervisor gets the fallback when AGENT_WAIT_SECONDS are over."""
    stack.supervisor.kill()
    began = time.monotonic()
    record = await stack.call()
    assert ends_in_the_dialplan(record)
    assert 1.0 < time.monotonic() - began < 6.0
    await asyncio.to_thread(stack.start_supervisor)
    await stack.until_idle()


async def test_the_voice_server_dies_and_comes_back(stack: RunningStack) -> None:
    """Row 37: silence meanwhile, then the stream is opened again with `resumed`."""
    async with stack.calling() as call:
        await stack.until_up()
        stack.agent.kill()
        stack.agent.start(stack.environment)
        await stack.until(lambda: '"resumed": true' in stack.agent.log, "resumed")
        await stack.until_audio(call)
        assert not hears(call, FALLBACK_HZ)
    record = await call.record
    assert record.ended_by == "caller"
    assert recording.continuity(record.packets).lost == 0
    await stack.until_idle()


async def test_the_voice_server_dies_for_good(stack: RunningStack) -> None:
    """Row 37: callers go on in the dialplan when STREAM_CONNECT_BUDGET is spent, new ones too."""
    calling = [asyncio.create_task(stack.call()) for _ in range(5)]
    await stack.until_up(5)
    died_at = time.monotonic()
    os.kill(stack.agent.pid, signal.SIGKILL)
    records = await asyncio.gather(*calling)
    assert all(ends_in_the_dialplan(record) for record in records)
    assert CONNECT_BUDGET_S - 1 < time.monotonic() - died_at < CONNECT_BUDGET_S + 6
    assert ends_in_the_dialplan(await stack.call())
    await stack.until_idle()
