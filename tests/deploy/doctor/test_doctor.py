"""`ots-doctor` as a process: on a machine that is well, and on one with a dozen things wrong."""

import asyncio
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from loadtest.stack import free_port
from tests.supervisor.stack import RunningStack

CHECKOUT = Path(__file__).parents[3]
OF_THE_MACHINE = "clock,dns,limits,cpu,memory,disk"
"""What this machine's owner decides, not the test."""
PORTS = {"RTP_PORT_START": "26000", "RTP_PORT_END": "26499"}
"""A range that other stacks on this machine don't use."""
FULL_RUN_DIR = """
mount -t tmpfs -o size=1m,mode=0700 tmpfs "$RUN_DIR"
exec prlimit --nofile=150:150 -- "$@"
"""


def examine(
    environment: Mapping[str, str], directory: Path, *arguments: str, broken: bool = False
) -> tuple[int, Any]:
    """Run it in a directory; exit code and findings."""
    module = "tests.deploy.doctor.broken_machine" if broken else "deploy.doctor"
    command = [sys.executable, "-m", module, "--json", *arguments]
    if broken:
        command = ["unshare", "--mount", "sh", "-euc", FULL_RUN_DIR, "sh", *command]
    ended = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.stdout, ended.stderr
    return ended.returncode, json.loads(ended.stdout)["findings"]


@contextmanager
def tls_server(certificate: trustme.LeafCert) -> Iterator[int]:
    """A TLS server in a thread; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    loop = asyncio.new_event_loop()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(lambda _, __: None, "127.0.0.1", 0, ssl=context)

    server = loop.run_until_complete(start())
    loop.set_exception_handler(lambda _, __: None)  # clients that refuse us, as they should
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def taken_media_port() -> socket.socket:
    """A UDP socket at the first free port from 24000 on."""
    for port in range(24000, 25000):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            sock.close()
        else:
            return sock
    raise AssertionError("no free port from 24000 to 24999")


def test_all_well(tmp_path: Path) -> None:
    """Before the supervisor is started and while it runs: nothing found, exit code 0."""
    log = tmp_path / "a.log"
    log.write_text('{"event": "call_ended", "call_id": "CA00"}\n')
    with RunningStack(start=("asterisk", "agent"), settings=PORTS) as stack:
        stack.wait_until(lambda: '"listening"' in stack.agent.log, 10, "the agent listens")
        arguments = ("--skip", OF_THE_MACHINE, "--logs", str(log))
        assert examine(stack.environment, tmp_path, *arguments) == (0, [])
        stack.start_supervisor()
        assert examine(stack.environment, tmp_path, *arguments) == (0, [])


def test_degraded_supervisor(tmp_path: Path) -> None:
    """A supervisor that has lost its Asterisk says so, and why."""
    with RunningStack() as stack:
        stack.asterisk.stop()
        stack.wait_until(lambda: not stack.is_ok(), 10, "the supervisor notices")
        code, findings = examine(stack.environment, tmp_path, "--skip", f"{OF_THE_MACHINE},ports")
    assert code == 2
    said = {finding["name"]: finding["what"] for finding in findings}
    assert sorted(said) == ["ari.unreachable", "supervisor.degraded"]
    assert "degraded" in said["supervisor.degraded"]
    assert "refused" in said["supervisor.degraded"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit(1) is missing")
def test_a_dozen_things_wrong(tmp_path: Path) -> None:
    """Each is found, once."""
    (tmp_path / ".env").write_text("MAX_CALLS=100\nRTP_PORT_STRAT=1\n")
    (tmp_path / ".env").chmod(0o644)
    (tmp_path / "a.log").write_text("call from +15551234567\n")
    (tmp_path / "run").mkdir()
    with (
        RunningStack(start=("asterisk",)) as stack,
        taken_media_port() as taken,
        socket.create_server(("127.0.0.1", 0)) as http,
        tls_server(trustme.CA().issue_cert("localhost")) as sip_port,
    ):
        port = taken.getsockname()[1]
        wrong = {
            "ON_STREAM_END": "explode",
            "RTP_PORT_START": str(port),
            "RTP_PORT_END": str(port + 999),
            "ASTERISK_RTP_START": str(port + 500),
            "ASTERISK_RTP_END": str(port + 2000),
            "ARI_PASS": "wrong",
            "ECS_MEDIA_WSS_URL": "wss://voice.invalid/stream",
            "ECS_MEDIA_WSS_FALLBACK_URL": f"ws://127.0.0.1:{free_port(socket.SOCK_STREAM)}/x",
            "HTTP_PORT": str(http.getsockname()[1]),
            "VOICE_AGENT_HOST": "0.0.0.0",
            "RUN_DIR": str(tmp_path / "run"),
            "WORKERS": "1",
        }
        code, findings = examine(
            {**stack.environment, **wrong},
            tmp_path,
            *("--sip", f"localhost:{sip_port}", "--logs", "a.log"),
            broken=True,
        )
    assert code == 2
    found = Counter(finding["name"] for finding in findings)
    expected = {
        "configuration.refused": 2,
        "configuration.unknown": 1,
        "ari.unreachable": 1,
        "voice-server.name": 1,
        "voice-server.unreachable": 1,
        "sip-tls.tls": 1,
        "clock.unsynchronized": 1,
        "ports.taken": 1,
        "ports.http": 1,
        "limits.nofile": 1,
        "access.mode": 1,
        "access.voice-agent": 1,
        "logs.phi": 1,
    }
    assert {name: found[name] for name in expected} == expected, findings
    full = [finding["what"] for finding in findings if finding["name"] == "disk.full"]
    assert any("RUN_DIR" in what for what in full)
    assert any("401" in finding["what"] for finding in findings)


@pytest.mark.asterisk
def test_evidence(asterisk_rootfs: Path, tmp_path: Path) -> None:
    """The report of a whole system states what was observed, and no secret."""
    token = "t0ken-of-the-evidence"
    with RunningStack(real=True, settings={**PORTS, "TWILIO_AUTH_TOKEN": token}) as stack:
        report = tmp_path / "evidence.md"
        arguments = ("--skip", OF_THE_MACHINE, "--evidence", str(report))
        code, findings = examine(stack.environment, tmp_path, *arguments)
        secrets = (token, stack.environment["ARI_PASS"])
    assert all(finding["name"] == "ari.version" for finding in findings), findings
    assert code < 2
    text = report.read_text()
    assert report.stat().st_mode & 0o077 == 0
    assert "ARI took our password; a wrong one was refused" in text
    assert "a stream without signature was refused" in text
    assert "plain RTP at 127.0.0.1, on this machine only" in text
    assert "| Asterisk | 2" in text
    assert not any(secret in text for secret in secrets)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--skip", "clocks"], "clocks: allowed is any of configuration"),
        (["--sip", "host:x"], "host:x: Port could not be cast"),
        (["--sip-ca", "/nowhere.pem"], "No such file"),
    ],
)
def test_bad_arguments(arguments: list[str], said: str, tmp_path: Path) -> None:
    """Exit code 2, and what is wrong with them."""
    command = [sys.executable, "-m", "deploy.doctor", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 2
    assert said in ended.stderr
