"""`python -m loadtest.demo`: start everything, place a real call, and show what came of it.

--stay        go on running afterwards, until Ctrl-C (`make run`)
--call-only   place a call on what is running already (`make call`)
"""

import argparse
import asyncio
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import dotenv
import msgspec

from deploy.asterisk_rootfs import RootfsError, ensure_rootfs, obstacle, rootfs_dir
from loadtest import demo_call
from loadtest.phone_plan import CallRecord
from loadtest.picture import draw_call
from loadtest.sip_phone import SipPhone
from shim import environment
from supervisor.config import TOKEN_FILE, SupervisorConfig

OUT: Final = Path("out")
LOG: Final = OUT / "services.log"
START_S: Final = 60.0
STOP_S: Final = 12.0
NO_ANSWER: Final = "no answer"
DEFAULTS: Final = {
    "AUDIT_LOG": "out/audit.jsonl",
    "ARI_USER": "voice-agent",
    "ECS_MEDIA_WSS_URL": "ws://127.0.0.1:8081/media-stream",
    "LOG_FORMAT": "text",
    "SIP_PORT": "5060",
    "HTTP_PORT": "8080",
}


class DemoError(Exception):
    """The demo can't go on; the text says why."""


def main() -> int:
    """Run the demo; returns 0 only if the caller heard greeting and echo."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.demo", description=__doc__)
    parser.add_argument("--stay", action="store_true", help="go on running until Ctrl-C")
    parser.add_argument("--call-only", action="store_true", help="only place a call")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):  # SIGHUP: the terminal was closed
        signal.signal(number, signal.default_int_handler)
    settings = _settings()
    try:
        if options.call_only:
            _require_running(settings)
            return _call(settings)
        with _services(settings):
            code = _call(settings)
            if options.stay:
                _stay(settings)
        return code
    except DemoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped")
        return 0


def _settings() -> dict[str, str]:
    """The environment, completed by .env, the demo's defaults and a password of the moment."""
    from_file = {name: value for name, value in dotenv.dotenv_values(".env").items() if value}
    password = {"ARI_PASS": secrets.token_urlsafe(18)}
    return {**DEFAULTS, **password, **from_file, **os.environ}


@contextlib.contextmanager
def _services(settings: Mapping[str, str]) -> Iterator[None]:
    """Asterisk, supervisor and voice agent under honcho, until the block ends."""
    require_free_ports(settings)
    environment = {**settings, "ASTERISK": _choose_asterisk(settings)}
    OUT.mkdir(exist_ok=True)
    print(f"starting asterisk, supervisor and voice_agent (what they say: {LOG})")
    command = [sys.executable, "-m", "honcho", "start", "-e", os.devnull]  # we have read .env
    with LOG.open("wb") as log:
        honcho = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_until_ready(settings, honcho)
        yield
    finally:
        honcho.send_signal(signal.SIGTERM)
        try:
            honcho.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(honcho.pid, signal.SIGKILL)
            honcho.wait()


def _choose_asterisk(settings: Mapping[str, str]) -> str:
    choice = settings.get("ASTERISK", "")
    problem = obstacle()
    if choice == "stand-in" or (problem and choice != "real"):
        print(f"Asterisk: a stand-in. {problem or 'ASTERISK=stand-in asks for it.'}")
        return "stand-in"
    if not rootfs_dir().is_dir():
        print("building a root file system with Asterisk, once: this takes a minute or two")
    try:
        ensure_rootfs()
    except RootfsError as error:
        raise DemoError(str(error)) from error
    print("Asterisk: a real one")
    return "real"


def require_free_ports(settings: Mapping[str, str]) -> None:
    """Make sure that whoever answers later is of this run.

    Raises:
        DemoError: a port is no number, or another program has it: perhaps another `make run`.
    """
    base = settings.get("ARI_BASE", "http://127.0.0.1:8088")
    tcp, udp = socket.SOCK_STREAM, socket.SOCK_DGRAM
    wanted = (
        ("HTTP_PORT", settings["HTTP_PORT"], tcp),
        ("VOICE_AGENT_PORT", settings.get("VOICE_AGENT_PORT", "8081"), tcp),
        ("ARI_BASE", base.rstrip("/").rpartition(":")[2], tcp),
        ("SIP_PORT", settings["SIP_PORT"], udp),
    )
    for variable, port, kind in wanted:
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise DemoError(f"{variable} means port {port!r}, allowed is 1 to 65535")
        with socket.socket(socket.AF_INET, kind) as trial:
            if kind == tcp:  # connections of an earlier run in TIME_WAIT don't matter
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", int(port)))
            except OSError as error:
                raise DemoError(
                    f"{variable} means port {port}: {error.strerror}; stop what uses it (another "
                    "`make run`?), or set another port"
                ) from error


def _require_running(settings: Mapping[str, str]) -> None:
    """Raises DemoError if there is no supervisor to take a call."""
    status = _health_status(settings)
    if status.startswith(NO_ANSWER):
        raise DemoError(f"{_http(settings)}/health: {status}; start everything with `make run`")


def _wait_until_ready(settings: Mapping[str, str], honcho: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if honcho.poll() is not None:
            raise DemoError(f"a service did not start:\n{_tail(LOG)}")
        if _health_status(settings) == "ok":
            return
        time.sleep(0.1)
    raise DemoError(f"not ready after {START_S:.0f} s:\n{_tail(LOG)}")


def _health_status(settings: Mapping[str, str]) -> str:
    try:
        try:
            answer = urllib.request.urlopen(f"{_http(settings)}/health", timeout=2)
        except urllib.error.HTTPError as error:  # 503: not well
            answer = error
        with answer:
            health = msgspec.json.decode(answer.read(), type=dict[str, object])
    except (OSError, msgspec.DecodeError) as error:
        return f"{NO_ANSWER}: {error}"
    return str(health["status"])


def _call(settings: Mapping[str, str]) -> int:
    """Place the demo's call, write what was heard, print the figures."""
    to = f"sip:agent@127.0.0.1:{settings['SIP_PORT']}"
    print(f"calling {to}: greeting, two notes, their echo, then # to end the call")
    record = asyncio.run(_place(to))
    heard = demo_call.judge(record)
    if record.packets:
        OUT.mkdir(exist_ok=True)
        name = OUT / f"call-{datetime.now():%H%M%S}"
        demo_call.write_wav(name.with_suffix(".wav"), record)
        draw_call(name.with_suffix(".png"), record, title="A call to the voice agent")
        print(f"what the caller heard  {name.with_suffix('.wav')}")
        print(f"both directions        {name.with_suffix('.png')}")
    for line in heard.lines():
        print(line)
    if heard.ok:
        return 0
    if LOG.exists():
        print(f"the last lines of {LOG}, which may say why:\n{_tail(LOG)}")
    return 1


async def _place(to: str) -> CallRecord:
    async with SipPhone() as phone:
        return await phone.call(demo_call.plan(to))


def _stay(settings: Mapping[str, str]) -> None:
    print(
        f"\nrunning. the console: {_http(settings)}/\n"
        f"its token, to sign in: {_token(settings)}\n"
        f"also {_http(settings)}/metrics, and: uv run python -m supervisor.command health\n"
        "another call: make call      stop: Ctrl-C",
        flush=True,
    )
    signal.pause()


def _token(settings: Mapping[str, str]) -> str:
    """Where the console's token is."""
    config = environment.read(SupervisorConfig, settings)
    return "API_TOKEN" if config.api_token else f"cat {config.run_path() / TOKEN_FILE}"


def _http(settings: Mapping[str, str]) -> str:
    return f"http://{settings.get('HTTP_HOST', '127.0.0.1')}:{settings['HTTP_PORT']}"


def _tail(path: Path) -> str:
    lines = path.read_text(errors="replace").splitlines()
    return "\n".join(lines[-15:])


if __name__ == "__main__":
    sys.exit(main())
