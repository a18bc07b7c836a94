"""The supervisor as a process, with real workers and calls, against the stand-in for Asterisk."""

import asyncio
import os
import resource
import signal
import time
from collections.abc import Iterator

import pytest

from loadtest import audio, recording
from loadtest.sip_phone import ActiveCall
from loadtest.stand_in_faults import Faults, RestFault
from tests.supervisor.few_fds import open_fds
from tests.supervisor.stack import RunningStack

STOP_LIMIT_S = 5.0
FALLBACK_HZ = 600.0
"""What a caller hears whom the dialplan has back."""


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    """A stack that all tests share which leave it as it was."""
    with RunningStack() as running:
        yield running
    assert "Traceback" not in running.supervisor.log


def hears(call: ActiveCall, tone_hz: float, since_ns: int = 0) -> bool:
    """Whether most of what the caller has heard is this tone."""
    return recording.power_share(recording.timeline(call.heard_since(since_ns)), tone_hz) > 0.5


async def check_refused(stack: RunningStack) -> None:
    """A new caller is back in the dialplan at once, and hangs up on its tone."""
    async with stack.calling() as call:
        await stack.until(lambda: hears(call, FALLBACK_HZ), "the dialplan's tone")


async def call_is_up(stack: RunningStack, calls: int = 1) -> None:
    """Wait until so many calls have both their channels."""
    await stack.until(lambda: stack.health()["active_channels"] == 2 * calls, "calls are up")


async def audio_goes_on(stack: RunningStack, call: ActiveCall) -> None:
    """Wait for half a second of audio from now on."""
    now_ns = time.monotonic_ns()
    await stack.until(lambda: len(call.heard_since(now_ns)) >= 25, "audio goes on")


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
        await call_is_up(stack)
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
    await stack.until_idle()


async def test_metrics(stack: RunningStack) -> None:
    """/metrics has the workers by number, and no call's name."""
    async with stack.calling():
        await call_is_up(stack)
        status, text = stack.http("GET", "/metrics")
    assert status == 200
    assert 'ots_worker_up{cpu="0",worker="0"} 1.0' in text or 'worker="0"} 1.0' in text
    calls = [line for line in text.splitlines() if line.startswith("ots_active_calls{")]
    assert sum(float(line.rpartition(" ")[2]) for line in calls) == 1.0
    assert "ots_ari_connected 1.0" in text
    assert "CA" + "0" * 4 not in text
    await stack.until_idle()


async def test_no_channel_of_ours_is_a_caller(stack: RunningStack) -> None:
    """The ExternalMedia leg enters the app too, before or after its answer: no second call."""
    for early in (False, True):
        stack.set_faults(Faults(early_stasis_start=early))
        async with stack.calling():
            await call_is_up(stack)
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
    await check_refused(stack)
    await stack.until_idle()


async def test_changes_need_the_token(stack: RunningStack) -> None:
    """A worker is replaced by HTTP for those who have the token, with the call that it serves."""
    assert stack.http("POST", "/workers/0/restart", token="guessed")[0] == 401
    assert stack.http("POST", "/workers/7/restart")[0] == 409
    async with stack.calling() as call:
        await call_is_up(stack)
        busy = next(worker for worker in stack.workers() if worker["calls"])
        path = f"/workers/{busy['worker']}/restart"
        assert (await asyncio.to_thread(stack.http, "POST", path))[0] == 200
        after = stack.workers()[busy["worker"]]
        assert after["pid"] != busy["pid"]
        assert after["calls"] == 1
        await audio_goes_on(stack, call)
    record = await call.record
    assert recording.continuity(record.packets).ssrc_changes == 0
    await stack.until_idle()


async def test_a_killed_worker_keeps_no_caller_waiting(stack: RunningStack) -> None:
    """The call goes on at another worker in the same RTP stream; the dead one is replaced."""
    async with stack.calling() as call:
        await call_is_up(stack)
        busy = next(worker["worker"] for worker in stack.workers() if worker["calls"])
        victim = stack.kill_worker(busy)
        await audio_goes_on(stack, call)
        assert stack.workers()[busy]["pid"] != victim
    record = await call.record
    heard = recording.continuity(record.packets)
    assert (heard.ssrc_changes, heard.duplicates) == (0, 0)
    assert len(stack.events("call_moved")) == 1
    await stack.until_idle()
    await stack.until(stack.is_ok, "the worker is replaced")


async def test_out_of_file_descriptors(stack: RunningStack) -> None:
    """The new call is refused, the one that is up goes on, and afterwards all is as before."""
    pid = stack.supervisor.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    async with stack.calling() as call:
        await call_is_up(stack)
        try:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_fds(pid), limits[1]))
            await check_refused(stack)
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        await audio_goes_on(stack, call)
        async with stack.calling():
            await call_is_up(stack, calls=2)
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


# Tests with a stack of their own


async def check_stopped(stack: RunningStack) -> None:
    """SIGTERM: in time, with exit code 0, and nothing is left anywhere."""
    pids = stack.worker_pids()
    assert len(pids) == 2
    code, seconds = await stack.stop_supervisor()
    assert code == 0
    assert seconds < STOP_LIMIT_S
    assert stack.worker_pids() == []
    assert not stack.run_dir.exists()
    assert "Traceback" not in stack.supervisor.log


async def test_sigterm_without_calls() -> None:
    """The supervisor ends, and with it its workers, the socket and the shared memory."""
    with RunningStack() as stack:
        await check_stopped(stack)
        state = stack.stand_in_state()
        assert state["applications"] == {"voice-agent": False}
        assert (state["channels"], state["bridges"]) == ({}, {})


async def test_sigterm_with_a_call() -> None:
    """The caller is given back to the dialplan, and nothing is left in Asterisk."""
    with RunningStack(settings={"DRAIN_SECONDS": "0"}) as stack:
        async with stack.calling() as call:
            await call_is_up(stack)
            now_ns = time.monotonic_ns()
            await check_stopped(stack)
            record = await call.record
        assert record.ended_by == "callee"
        assert hears(call, FALLBACK_HZ, now_ns)
        state = stack.stand_in_state()
        assert (state["channels"], state["bridges"], state["rtp_ports"]) == ({}, {}, [])


async def test_sigterm_lets_a_call_end() -> None:
    """Within DRAIN_SECONDS calls go on, new ones are not taken, and the end comes with the last."""
    with RunningStack(settings={"DRAIN_SECONDS": "60"}) as stack:
        async with stack.calling() as call:
            await call_is_up(stack)
            stack.supervisor.send(signal.SIGTERM)
            await stack.until(lambda: stack.health()["status"] == "draining", "draining")
            await check_refused(stack)
            await audio_goes_on(stack, call)
        assert (await call.record).ended_by == "caller"
        assert await stack.exit_code() == 0


async def test_sigterm_while_starting() -> None:
    """A stop that comes before the workers are ready is obeyed as quickly."""
    with RunningStack(start=("asterisk",)) as stack:
        stack.supervisor.start(stack.environment)
        await stack.until(lambda: stack.worker_pids(), "a worker is being started")
        code, seconds = await stack.stop_supervisor()
        assert (code, stack.worker_pids()) == (0, [])
        assert seconds < STOP_LIMIT_S
        assert "Traceback" not in stack.supervisor.log


async def test_the_supervisor_is_killed_and_comes_back() -> None:
    """A call goes on and is adopted; what ended meanwhile is cleaned up, here and in Asterisk.

    Of the calls that end, one loses its worker too: nobody claims its port.
    """
    with RunningStack() as stack:
        async with stack.calling() as stays, stack.calling() as orphan:
            await call_is_up(stack, calls=2)
            first, second = (worker["pid"] for worker in stack.workers())
            async with stack.calling():
                await call_is_up(stack, calls=3)
                stack.supervisor.kill()
                os.kill(second, signal.SIGKILL)
                orphan.hang_up()
            await audio_goes_on(stack, stays)
            await asyncio.to_thread(stack.start_supervisor)
            await call_is_up(stack, calls=1)
            assert stack.workers()[0]["pid"] == first
            assert len(stack.events("call_adopted")) == 2
            await stack.until(lambda: stack.leased_ports() == 1, "the others' ports are freed")
            await audio_goes_on(stack, stays)
        heard = recording.continuity((await stays.record).packets)
        assert (heard.lost, heard.ssrc_changes) == (0, 0)
        await stack.until_idle()
        await check_stopped(stack)


async def test_the_newer_supervisor_wins() -> None:
    """A second supervisor on the same app takes over; the first stops taking calls, for good."""
    with (
        RunningStack() as first,
        RunningStack(start=()) as second,
    ):
        second.environment |= {
            name: first.environment[name] for name in ("ARI_BASE", "ARI_USER", "ARI_PASS")
        }
        second.environment |= {"RTP_PORT_START": "22000", "RTP_PORT_END": "22100"}
        second.environment["ECS_MEDIA_WSS_URL"] = first.environment["ECS_MEDIA_WSS_URL"]
        await asyncio.to_thread(second.start_supervisor)
        await first.until(lambda: first.health()["status"] == "draining", "the first gives way")
        async with first.calling():
            await call_is_up(second)
        assert len(second.events("call_placed")) == 1
        assert len(first.events("replaced_by_another_supervisor")) == 1
        assert not first.events("call_placed")
        assert second.is_ok()


# What keeps it from working


async def test_without_asterisk() -> None:
    """It stays up, says what it waits for, and works as soon as Asterisk is there."""
    with RunningStack(start=()) as stack:
        stack.supervisor.start(stack.environment)
        await stack.until(lambda: stack.events("ari_unreachable"), "says so")
        status, _ = stack.http("GET", "/health")
        assert status == 503
        health = stack.health()
        assert health["status"] == "degraded"
        assert health["ari"] == {"connected": False, "reason": "connection refused"}
        line = stack.events("ari_unreachable")[0]
        assert line["base"] == stack.environment["ARI_BASE"]
        assert line["reason"] == "connection refused"
        await asyncio.to_thread(stack.start_asterisk)
        await stack.until(stack.is_ok, "connected", within_s=15)
        code, seconds = await stack.stop_supervisor()
        assert code == 0
        assert seconds < STOP_LIMIT_S


async def test_a_wrong_password() -> None:
    """It stays up and says what is wrong, without the password."""
    with RunningStack(start=("asterisk",)) as stack:
        wrong = "not-the-password"
        stack.supervisor.start({**stack.environment, "ARI_PASS": wrong})
        await stack.until(lambda: stack.events("ari_unreachable"), "says so")
        assert stack.health()["status"] == "degraded"
        assert stack.health()["ari"]["reason"] == "wrong user or password (401)"
        assert wrong not in stack.supervisor.log
        assert (await stack.stop_supervisor())[0] == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ARI_PASS": ""}, "ARI_PASS is not set"),
        ({"ARI_BASE": "http://me:it@127.0.0.1:8088"}, "ARI_BASE holds an @"),
        ({"HTTP_HOST": "192.0.2.1"}, "HTTP_HOST is '192.0.2.1'"),
        ({"RTP_BIND_HOST": "192.0.2.1"}, "RTP_BIND_HOST is '192.0.2.1'"),
        ({"STREAM_CA_FILE": "/no/such/file"}, "STREAM_CA_FILE is '/no/such/file'"),
        ({"ORPHAN_GRACE": "soon"}, "ORPHAN_GRACE is 'soon'"),
        ({"RUN_DIR": "/dev/null/x"}, "RUN_DIR is '/dev/null/x'"),
        ({"RUN_DIR": "/tmp/" + "x" * 150}, "allowed is a path shorter by 64 bytes"),
    ],
)
async def test_settings_that_cannot_be_used(change: dict[str, str], words: str) -> None:
    """One line that names the variable, exit code 78, and nothing is left behind."""
    with RunningStack(settings=change, start=()) as stack:
        stack.supervisor.start(stack.environment)
        assert await stack.exit_code() == os.EX_CONFIG
        (line,) = [line for line in stack.supervisor.log.splitlines() if "cannot_start" in line]
        assert words in line
        assert "Traceback" not in stack.supervisor.log
        assert not stack.run_dir.exists()
