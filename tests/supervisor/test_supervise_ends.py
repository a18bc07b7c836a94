"""How the supervisor's process starts and ends: signals, crashes, bad settings, no Asterisk."""

import asyncio
import os
import signal
import time

import pytest

from loadtest import recording
from tests.supervisor.stack import FALLBACK_HZ, RunningStack, hears

STOP_LIMIT_S = 5.0


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
            await stack.until_up()
            now_ns = time.monotonic_ns()
            await check_stopped(stack)
            state = stack.stand_in_state()
            assert len(state["channels"]) == 1
            assert state["bridges"] == {}
            await stack.until(lambda: hears(call, FALLBACK_HZ, now_ns), "the dialplan's tone")
        await stack.until(lambda: not stack.stand_in_state()["rtp_ports"], "Asterisk is empty")


async def test_sigterm_lets_a_call_end() -> None:
    """Within DRAIN_SECONDS calls go on, new ones are not taken, and the end comes with the last."""
    with RunningStack(settings={"DRAIN_SECONDS": "60"}) as stack:
        async with stack.calling() as call:
            await stack.until_up()
            stack.supervisor.send(signal.SIGTERM)
            await stack.until(lambda: stack.health()["status"] == "draining", "draining")
            await stack.check_refused()
            await stack.until_audio(call)
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
            await stack.until_up(calls=2)
            first, second = (worker["pid"] for worker in stack.workers())
            async with stack.calling():
                await stack.until_up(calls=3)
                held = stack.workers()[0]["calls"]
                stack.supervisor.kill()
                os.kill(second, signal.SIGKILL)
                orphan.hang_up()
            await stack.until_audio(stays)
            await asyncio.to_thread(stack.start_supervisor)
            await stack.until_up(calls=1)
            assert stack.workers()[0]["pid"] == first
            assert len(stack.events("call_adopted")) == held
            await stack.until(lambda: stack.leased_ports() == 1, "the others' ports are freed")
            await stack.until_audio(stays)
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
        async with second.calling(to=first.sip_uri):
            await second.until_up()
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
        ({"HTTP_HOST": "192.0.2.1"}, "credentials would not be encrypted"),
        ({"HTTP_HOST": "192.0.2.1", "ALLOW_UNENCRYPTED": "1"}, "HTTP_HOST is '192.0.2.1' and"),
        ({"HTTP_TLS_CERT": "/no/such/file"}, "HTTP_TLS_CERT is '/no/such/file'"),
        ({"API_TOKEN": "short"}, "API_TOKEN is (hidden)"),
        ({"API_KEYS_FILE": "/no/such/file"}, "API_KEYS_FILE is '/no/such/file'"),
        ({"AUDIT_LOG": "/no/such/file"}, "AUDIT_LOG is '/no/such/file'"),
        ({"RTP_BIND_HOST": "192.0.2.1"}, "RTP_BIND_HOST is '192.0.2.1'"),
        ({"STREAM_CA_FILE": "/no/such/file"}, "STREAM_CA_FILE is '/no/such/file'"),
        ({"RECORDING_DIR": "/tmp"}, "nothing seals what is recorded"),
        ({"RECORDING_DIR": "/tmp", "RECORDING_KEY_FILE": "/etc/passwd"}, "its mode is 0644"),
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
