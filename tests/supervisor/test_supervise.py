"""The supervisor as a process, with real workers and calls, against the stand-in for Asterisk."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from loadtest import audio, recording
from loadtest.stand_in_faults import Faults, RestFault
from tests.supervisor.few_fds import no_fds_left
from tests.supervisor.stack import API_TOKEN, RunningStack


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    """A stack that all tests share which leave it as it was."""
    with RunningStack() as running:
        yield running
    assert "Traceback" not in running.supervisor.log


async def test_a_call_from_greeting_to_goodbye(stack: RunningStack) -> None:
    """The caller hears the agent, then their own tone again, says goodbye by a key; no loss."""
    said = audio.silence(2.2) + audio.tone(440, 0.6)
    record = await stack.call(seconds=15.0, audio=said, digits=((4.5, "#"),))
    assert (record.outcome, record.ended_by) == ("answered", "callee")
    answered_ns = round((record.answered_at or 0) * 1e9)
    greeting = [p for p in record.packets if p.at_ns < answered_ns + 2.2e9]
    echo = [p for p in record.packets if answered_ns + 3e9 < p.at_ns < answered_ns + 4.4e9]
    assert recording.dominant_hz(recording.timeline(greeting)) is not None
    assert recording.power_share(recording.timeline(echo), 440) > 0.5
    assert recording.continuity(record.packets).lost == 0
    await stack.until_idle()


async def test_health_while_a_call_is_up(stack: RunningStack) -> None:
    """/health shows calls, workers and settings; no secret is in it."""
    async with stack.calling():
        await stack.until_up()
        health = stack.health()
        assert health["status"] == "ok"
        assert health["running"] is True
        assert health["supervisor_task_status"] == "running"
        assert health["active_sessions"] == 1
        assert health["ari"] == {"connected": True, "reason": "connected"}
        workers = health["workers"]
        assert [worker["worker"] for worker in workers] == [0, 1]
        assert sum(worker["calls"] for worker in workers) == 1
        assert sum(worker["ports"]["leased"] for worker in workers) == 1
        for worker in workers:
            assert worker["state"] == "ready"
            assert os.sched_getaffinity(worker["pid"]) == {worker["cpu"]}
        assert sorted(worker["pid"] for worker in workers) == sorted(stack.worker_pids())
        assert health["config"]["ARI_PASS"] == "***"
        assert stack.environment["ARI_PASS"] not in str(health)
        assert API_TOKEN not in str(health)
    await stack.until_idle()


async def test_metrics(stack: RunningStack) -> None:
    """/metrics has the workers by number, and no call's name."""
    async with stack.calling():
        await stack.until_up()
        status, text = stack.http("GET", "/metrics")
    assert status == 200
    figures = {
        name: [float(line.rpartition(" ")[2]) for line in text.splitlines() if name + "{" in line]
        for name in ("ots_worker_up", "ots_active_calls")
    }
    assert figures["ots_worker_up"] == [1.0, 1.0]
    assert sorted(figures["ots_active_calls"]) == [0.0, 1.0]
    assert "ots_ari_connected 1.0" in text
    assert "CA" + "0" * 4 not in text
    await stack.until_idle()


async def test_no_channel_of_ours_is_a_caller(stack: RunningStack) -> None:
    """The ExternalMedia leg enters the app too, before or after its answer: no second call."""
    for early in (False, True):
        stack.set_faults(Faults(early_stasis_start=early))
        async with stack.calling():
            await stack.until_up()
            assert stack.health()["active_sessions"] == 1
        await stack.until_idle()
    stack.set_faults(Faults())


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/ari/bridges/voice-agent.*"),
        ("POST", "/ari/channels/externalMedia"),
        ("POST", "/ari/bridges/*/addChannel"),
    ],
)
async def test_a_failed_set_up_leaves_nothing(stack: RunningStack, method: str, path: str) -> None:
    """Whichever step Asterisk refuses: the caller is back in the dialplan, nothing is left."""
    stack.set_faults(Faults(rest=(RestFault("status", method, path, status=500, done=True),)))
    await stack.check_refused()
    await stack.until_idle()


async def test_changes_need_the_token(stack: RunningStack) -> None:
    """A worker is replaced by HTTP for those who have the token, with the call that it serves."""
    assert stack.http("POST", "/workers/0/restart", token="guessed")[0] == 401
    assert stack.http("GET", "/health", token="guessed")[0] == 401
    assert stack.http("POST", "/workers/7/restart")[0] == 409
    async with stack.calling() as call:
        await stack.until_up()
        busy = next(worker for worker in stack.workers() if worker["calls"])
        path = f"/workers/{busy['worker']}/restart"
        assert (await asyncio.to_thread(stack.http, "POST", path))[0] == 200
        after = stack.workers()[busy["worker"]]
        assert after["pid"] != busy["pid"]
        assert after["calls"] == 1
        await stack.until_audio(call)
    record = await call.record
    assert recording.continuity(record.packets).ssrc_changes == 0
    await stack.until_idle()


@pytest.mark.parametrize("way", ["signal", "command"])
async def test_all_workers_are_replaced(stack: RunningStack, way: str) -> None:
    """SIGHUP and the command start new workers one by one; the call goes on in the same stream."""
    async with stack.calling() as call:
        await stack.until_up()
        before = stack.worker_pids()
        renewed = len(stack.events("worker_replaced"))
        if way == "signal":
            stack.supervisor.send(signal.SIGHUP)
        else:
            assert await stack.command("restart") == 0
        await stack.until(lambda: len(stack.events("worker_replaced")) == renewed + 2, "replaced")
        await stack.until(lambda: not set(before) & set(stack.worker_pids()), "old ones are gone")
        await stack.until_audio(call)
    heard = recording.continuity((await call.record).packets)
    assert (heard.ssrc_changes, heard.duplicates, heard.reordered) == (0, 0, 0)
    assert stack.is_ok()
    await stack.until_idle()
    ended = stack.events("call_ended")[-1]
    assert ended["frames_in"] > ended["frames_out"] - 50, "what the old workers counted stays"


async def test_a_killed_worker_keeps_no_caller_waiting(stack: RunningStack) -> None:
    """The call goes on at another worker in the same RTP stream; the dead one is replaced."""
    async with stack.calling() as call:
        await stack.until_up()
        busy = next(worker["worker"] for worker in stack.workers() if worker["calls"])
        victim = stack.kill_worker(busy)
        await stack.until_audio(call)
        assert stack.workers()[busy]["pid"] != victim
    record = await call.record
    heard = recording.continuity(record.packets)
    assert (heard.ssrc_changes, heard.duplicates) == (0, 0)
    assert len(stack.events("call_moved")) == 1
    await stack.until_idle()
    await stack.until(stack.is_ok, "the worker is replaced")


async def test_out_of_file_descriptors(stack: RunningStack) -> None:
    """The new call is refused, the one that is up goes on, and afterwards all is as before."""
    async with stack.calling() as call:
        await stack.until_up()
        async with no_fds_left(stack.supervisor.pid):
            await stack.check_refused()
        await stack.until_audio(call)
        async with stack.calling():
            await stack.until_up(calls=2)
    await stack.until_idle()


async def test_a_second_supervisor_is_refused(stack: RunningStack) -> None:
    """One run directory, one supervisor: the second ends with one line, the first goes on."""
    port = stack.environment["HTTP_PORT"]
    with RunningStack(settings={"RUN_DIR": str(stack.run_dir)}, start=()) as second:
        second.supervisor.start({**stack.environment, "HTTP_PORT": str(int(port) + 1)})
        assert await second.exit_code() == os.EX_CONFIG
        lines = second.supervisor.log.splitlines()
    assert len(lines) == 1
    assert f"RUN_DIR is '{stack.run_dir}': another supervisor uses it" in lines[0]
    assert stack.is_ok()
