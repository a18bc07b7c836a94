"""A real Asterisk from the root file system: it starts, answers, and leaves nothing behind."""

import base64
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from deploy.asterisk_rootfs import rootfs_dir
from deploy.conf_files import CANNOT_START
from deploy.run_asterisk import PID_FILE, NotRunningError, cli
from loadtest.audio import decode
from loadtest.recording import dominant_hz
from tests.asterisk_instance import CHECKOUT, AsteriskInstance, wait_until
from tests.deploy.plain_caller import PlainCaller

FALLBACK_HZ = 600
FALLBACK_SECONDS = 2.0

pytestmark = pytest.mark.asterisk


@pytest.fixture
def own(asterisk_rootfs: Path, tmp_path: Path) -> Iterator[AsteriskInstance]:
    """An Asterisk that isn't running yet, for tests that end it; ended here if they failed to."""
    instance = AsteriskInstance(tmp_path / "instance")
    yield instance
    if instance.process is not None:
        instance.kill()


def credentials(instance: AsteriskInstance, password: str = "") -> dict[str, str]:
    """The header of HTTP basic authentication, with the right password unless another is given."""
    user = f"{instance.user}:{password or instance.password}"
    return {"Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}


def ask(
    instance: AsteriskInstance, method: str, path: str, password: str | None = ""
) -> tuple[int, bytes]:
    """A request to ARI: status and body. "" means the right password, None no credentials."""
    headers = {} if password is None else credentials(instance, password)
    connection = http.client.HTTPConnection("127.0.0.1", instance.http_port, timeout=5)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def get_info(instance: AsteriskInstance, password: str | None = "") -> tuple[int, bytes]:
    """GET /ari/asterisk/info, the simplest question."""
    return ask(instance, "GET", "/ari/asterisk/info", password)


def remains(instance: AsteriskInstance) -> list[str]:
    """Processes and mounts that still have to do with the instance."""
    directory = str(instance.directory)
    found = [line for line in Path("/proc/mounts").read_text().splitlines() if directory in line]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text()
            mounts = (process / "mountinfo").read_text()
        except (FileNotFoundError, ProcessLookupError, OSError):
            continue  # ended while we looked
        if process.name != str(os.getpid()) and (directory in command or directory in mounts):
            found.append(f"{process.name}: {command}")
    return found


def test_ari_answers_with_the_credentials(asterisk: AsteriskInstance) -> None:
    """ARI reports a version of Asterisk that has the fixes we need."""
    status, body = get_info(asterisk)
    assert status == 200
    assert int(json.loads(body)["system"]["version"].split(".")[0]) >= 20


@pytest.mark.parametrize("password", [None, "wrong"])
def test_ari_refuses_everybody_else(asterisk: AsteriskInstance, password: str | None) -> None:
    """401 without a password and with a wrong one."""
    assert get_info(asterisk, password)[0] == 401


def test_the_console_answers(asterisk: AsteriskInstance) -> None:
    """Through the function and through the command line."""
    assert "chan_pjsip.so" in asterisk.cli("module show like chan_pjsip")
    command = [sys.executable, "-m", "deploy.run_asterisk", "--instance", str(asterisk.directory)]
    printed = subprocess.run(
        [*command, "--cli", "core show channels count"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "0 active channels" in printed.stdout


def test_the_start_is_quiet(asterisk: AsteriskInstance) -> None:
    """A complete configuration gives no warnings and no errors."""
    start, ready, _ = asterisk.log.partition("Asterisk Ready")
    assert ready
    lines = start.splitlines()
    assert [line for line in lines if "doesn't exist" not in line and is_complaint(line)] == []


def is_complaint(line: str) -> bool:
    """Whether a log line is a warning or an error."""
    return " WARNING[" in line or " ERROR[" in line


def test_a_call_without_an_agent_hears_the_fallback(asterisk: AsteriskInstance) -> None:
    """With no app connected to ARI: answered, 2 s of the tone, then BYE from Asterisk."""
    with PlainCaller(asterisk.sip_port) as caller:
        answer = caller.invite()
        assert answer.startswith("SIP/2.0 200 "), answer
        assert "m=audio" in answer
        assert "PCMU/8000" in answer
        heard, seconds = caller.hear_until_bye(5.0)
    assert seconds == pytest.approx(FALLBACK_SECONDS, abs=0.5)
    assert len(heard) == pytest.approx(FALLBACK_SECONDS * 8000, rel=0.1)
    assert dominant_hz(decode(heard)) == pytest.approx(FALLBACK_HZ, abs=5)


@pytest.mark.parametrize("number", ["112", "agent-7", ""])
def test_every_number_is_answered(asterisk: AsteriskInstance, number: str) -> None:
    """Short ones, names, and a URI without a user part reach the agent's dialplan as well."""
    with PlainCaller(asterisk.sip_port, number=number) as caller:
        assert caller.invite().startswith("SIP/2.0 200 ")
        caller.hear_until_bye(5.0)


def test_the_agent_gets_the_call_and_gives_it_back(asterisk: AsteriskInstance) -> None:
    """ARI shows the called number; after `continue` the caller hears the fallback."""
    events = f"ws://127.0.0.1:{asterisk.http_port}/ari/events?app={asterisk.app}"
    with (
        connect(events, additional_headers=credentials(asterisk)) as agent,
        PlainCaller(asterisk.sip_port, number="+4930123456") as caller,
    ):
        assert caller.invite().startswith("SIP/2.0 200 ")
        start = json.loads(agent.recv(timeout=5))
        assert (start["type"], start["args"]) == ("StasisStart", ["inbound"])
        assert start["channel"]["dialplan"]["exten"] == "+4930123456"
        assert start["channel"]["state"] == "Up"
        status, _ = ask(asterisk, "POST", f"/ari/channels/{start['channel']['id']}/continue")
        assert status == 204
        heard, _ = caller.hear_until_bye(5.0)
    assert dominant_hz(decode(heard)) == pytest.approx(FALLBACK_HZ, abs=5)


def test_calls_end_before_the_ports_do(own: AsteriskInstance) -> None:
    """80 RTP ports are enough for 10 calls and a reserve of 40; the next caller gets 503."""
    own.rtp_ports = range(12000, 12080)
    with own, contextlib.ExitStack() as callers:
        answers = [
            callers.enter_context(PlainCaller(own.sip_port)).invite().split()[1] for _ in range(11)
        ]
    assert answers == ["200"] * 10 + ["503"]


def test_a_stranger_is_refused(asterisk: AsteriskInstance) -> None:
    """An address that belongs to no endpoint gets 401 and no call."""
    with PlainCaller(asterisk.sip_port, host="127.0.0.2") as caller:
        assert caller.invite().startswith("SIP/2.0 401 ")
    assert "0 active channels" in asterisk.cli("core show channels count")


def test_only_ulaw_is_spoken(asterisk: AsteriskInstance) -> None:
    """An offer without PCMU is refused: nothing is ever transcoded."""
    with PlainCaller(asterisk.sip_port) as caller:
        assert caller.invite((8, "PCMA")).startswith("SIP/2.0 488 ")


def test_sigterm_leaves_nothing(own: AsteriskInstance) -> None:
    """It ends in 3 s with exit code 0, in the middle of a call too; no process, no mount stays."""
    own.start()
    with PlainCaller(own.sip_port) as caller:
        assert caller.invite().startswith("SIP/2.0 200 ")
        before = time.monotonic()
        assert own.stop() == 0
        assert time.monotonic() - before < 3.0
    wait_until(lambda: not remains(own), 2.0, lambda: str(remains(own)))
    with pytest.raises(NotRunningError, match="No Asterisk runs in"):
        own.cli("core show channels")


def test_sigint_ends_it_too(own: AsteriskInstance) -> None:
    """As Ctrl-C in a terminal does."""
    own.start()
    assert own.process is not None
    own.process.send_signal(signal.SIGINT)
    assert own.process.wait(3.0) == 0


def test_sigkill_leaves_nothing_and_it_starts_again(own: AsteriskInstance) -> None:
    """The kernel takes the mounts down; the same directory and ports serve the next start."""
    own.start()
    process_id = int((own.directory / PID_FILE).read_text())
    assert remains(own)
    own.kill()
    wait_until(lambda: not remains(own), 2.0, lambda: str(remains(own)))
    assert not Path(f"/proc/{process_id}").exists()
    with own:
        assert get_info(own)[0] == 200


def test_two_run_side_by_side(asterisk: AsteriskInstance, own: AsteriskInstance) -> None:
    """Each has its own files and credentials, and the root file system is not written to."""
    with own:
        assert get_info(own)[0] == 200
        assert get_info(asterisk)[0] == 200
        assert get_info(own, asterisk.password)[0] == 401
    assert get_info(asterisk)[0] == 200
    assert not (rootfs_dir() / "run/asterisk/asterisk.ctl").exists()
    assert asterisk.user not in (rootfs_dir() / "etc/asterisk/ari.conf").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ARI_BASE": "http://127.0.0.1:{http_port}"}, "ARI_BASE means 127.0.0.1:{http_port}"),
        ({"SIP_PORT": "{sip_port}"}, "SIP_PORT means 127.0.0.1:{sip_port}"),
        ({"ARI_PASS": ""}, "ARI_PASS is not set"),
        ({"RTP_PORT_START": "19000"}, "overlap"),
    ],
)
def test_a_start_that_cannot_work_is_refused(
    asterisk: AsteriskInstance, own: AsteriskInstance, change: dict[str, str], message: str
) -> None:
    """One line on stderr and an exit code of its own, instead of an Asterisk without ears."""
    ports = {"http_port": asterisk.http_port, "sip_port": asterisk.sip_port}
    changed = {name: value.format_map(ports) for name, value in change.items()}
    ended = start_in_vain(own.directory, {**own.environment, **changed})
    assert ended.returncode == CANNOT_START
    assert message.format_map(ports) in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_one_directory_holds_one_asterisk(asterisk: AsteriskInstance) -> None:
    """A second start in it is refused and doesn't disturb the first."""
    ended = start_in_vain(asterisk.directory, asterisk.environment)
    assert ended.returncode == CANNOT_START
    assert "an Asterisk runs there already" in ended.stderr
    assert get_info(asterisk)[0] == 200


def test_the_console_of_nothing_is_an_error(tmp_path: Path) -> None:
    """A directory without an instance, and one whose instance is gone."""
    for _ in range(2):
        with pytest.raises(NotRunningError, match=str(tmp_path)):
            cli(tmp_path, "core show channels")
        (tmp_path / PID_FILE).write_text(f"{os.getpid()}\n")  # nobody holds its lock


def start_in_vain(directory: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Start an Asterisk that is expected to end at once."""
    return subprocess.run(
        [sys.executable, "-m", "deploy.run_asterisk", "--instance", str(directory)],
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=20,
    )
