"""The whole system under test: `loadtest.stack`, with what tests do to it and ask of it.

    with RunningStack() as stack:                     # or RunningStack(real=True)
        record = await stack.call(seconds=2.0)
        stack.kill_worker(0)
        await stack.until_idle()

The stack's own methods block; what waits here doesn't, so that phones in the test go on talking.
"""

import asyncio
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import msgspec

from loadtest import recording
from loadtest.phone_plan import CallPlan, CallRecord
from loadtest.sip_phone import ActiveCall, SipPhone
from loadtest.stack import POLL_S, STOP_S, Stack, StackError
from loadtest.stand_in_faults import Faults
from tests import phi_watch
from tests.phi_search import CALLED, CALLER

PATIENCE_S = 10.0
API_TOKEN = "a-token-of-tests"
SHOWN_S = 2.0
FALLBACK_HZ = 600.0
"""What a caller hears whom the dialplan has back."""


class RunningStack(Stack):
    """All parts, or with `start=()` none of them yet.

    Args:
        real: whether Asterisk is the real one.
        settings: environment variables that differ from the stack's own.
        start: which of "asterisk", "agent" and "supervisor" to start.
    """

    def __init__(
        self,
        *,
        real: bool = False,
        settings: Mapping[str, str] | None = None,
        start: tuple[str, ...] = ("asterisk", "agent", "supervisor"),
    ) -> None:
        super().__init__(real=real, settings={"API_TOKEN": API_TOKEN, **(settings or {})})
        self._start = start

    def __enter__(self) -> Self:
        try:
            if "asterisk" in self._start:
                self.start_asterisk()
            if "agent" in self._start:
                self.agent.start(self.environment)
            if "supervisor" in self._start:
                self.start_supervisor()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        look_for_phi(self)
        super().__exit__(*error)

    # Calls

    @asynccontextmanager
    async def calling(self, **plan: Any) -> AsyncIterator[ActiveCall]:
        """A call that is answered and hears something; leaving hangs up.

        `plan` are fields of `CallPlan`.
        """
        async with SipPhone() as phone:
            call = phone.start(self.plan(**plan))
            assert await call.answered(), "nobody answers"
            await self.until(lambda: call.heard_since(0), "the caller hears something")
            yield call
            call.hang_up()
            await call.record

    async def call(self, **plan: Any) -> CallRecord:
        """Make a call and wait for its end. `plan` are fields of `CallPlan`."""
        async with SipPhone() as phone:
            return await phone.call(self.plan(**plan))

    @property
    def sip_uri(self) -> str:
        """Where to call: a number that must show up nowhere."""
        return f"sip:+{CALLED}@127.0.0.1:{self.environment['SIP_PORT']}"

    def plan(self, **plan: Any) -> CallPlan:
        """A call to this stack's Asterisk."""
        return msgspec.structs.replace(CallPlan(to=self.sip_uri, from_user=f"+{CALLER}"), **plan)

    # Looking

    async def until_up(self, calls: int = 1) -> None:
        """Wait until there are so many calls, each with both channels."""
        await self.until(lambda: self.health()["active_channels"] == 2 * calls, "calls are up")

    async def until_audio(self, call: ActiveCall) -> None:
        """Wait until the caller has heard half a second more from now on."""
        now_ns = time.monotonic_ns()
        await self.until(lambda: len(call.heard_since(now_ns)) >= 25, "audio goes on")

    async def check_refused(self) -> None:
        """A new caller is back in the dialplan at once, and hangs up on its tone."""
        async with self.calling() as call:
            await self.until(lambda: hears(call, FALLBACK_HZ), "the dialplan's tone")

    async def until(
        self, condition: Callable[[], object], what: str, within_s: float = PATIENCE_S
    ) -> None:
        """Poll until the condition holds, in a thread; raises StackError with the logs."""
        deadline = time.monotonic() + within_s
        while not await asyncio.to_thread(condition):
            if time.monotonic() > deadline:
                raise StackError(f"after {within_s:g} s: {what}\n{self._story()}")
            await asyncio.sleep(POLL_S)

    def _story(self) -> str:
        """What helps to understand a failure: the logs, and how things stand now."""
        logs = "\n".join(part.log[-3000:] for part in (self.supervisor, self.agent))
        try:
            return f"{logs}\n{self.health()}\n{'' if self.real else self.stand_in_state()}"
        except (OSError, StackError) as error:
            return f"{logs}\n{error}"

    async def until_idle(self) -> None:
        """Wait until no call is left: not here, and not in Asterisk."""
        await self.until(lambda: self.health()["active_channels"] == 0, "calls are over")
        await self.until(lambda: not any(self.left_in_asterisk().values()), "Asterisk is empty")
        await self.until(lambda: self.leased_ports() == 0, "all ports are released")

    def leased_ports(self) -> int:
        """How many RTP ports calls have, by the supervisor's count."""
        return sum(worker["ports"]["leased"] for worker in self.workers())

    def worker_pids(self) -> list[int]:
        """All worker processes of this stack that run, also those of a killed supervisor."""
        mine = f"RUN_DIR={self.run_dir}".encode()
        return [
            int(process.name)
            for process in Path("/proc").iterdir()
            if process.name.isdigit() and _is_worker(process, mine)
        ]

    # Doing

    def kill_worker(self, worker: int, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to a worker; its process id."""
        pid = int(self.workers()[worker]["pid"])
        os.kill(pid, number)
        return pid

    async def restart_supervisor(self) -> None:
        """SIGKILL the supervisor and start it again; workers and calls live on meanwhile."""
        self.supervisor.kill()
        await asyncio.to_thread(self.start_supervisor)

    async def stop_supervisor(self) -> tuple[int, float]:
        """SIGTERM; the exit code, and how many seconds it took."""
        began = time.monotonic()
        code = await asyncio.to_thread(self.supervisor.stop)
        return code, time.monotonic() - began

    async def command(self, *arguments: str) -> int:
        """Run `python -m supervisor.command`; its exit code."""
        environment = {**os.environ, **self.environment}
        command = [sys.executable, "-m", "supervisor.command", *arguments]
        process = await asyncio.create_subprocess_exec(*command, env=environment)
        return await process.wait()

    async def exit_code(self) -> int:
        """Wait until the supervisor ends by itself."""
        process = self.supervisor.process
        assert process is not None
        return await asyncio.to_thread(process.wait, STOP_S)

    def set_faults(self, faults: Faults) -> None:
        """Let the stand-in misbehave from now on."""
        url = f"{self.environment['ARI_BASE']}/stand-in/faults"
        _ask(urllib.request.Request(url, msgspec.json.encode(faults), method="PUT"))

    def stand_in_state(self) -> dict[str, Any]:
        """What is up in the stand-in (`loadtest.stand_in.State`)."""
        answer = _ask(urllib.request.Request(f"{self.environment['ARI_BASE']}/stand-in/state"))
        state: dict[str, Any] = json.loads(answer[1])
        return state

    @property
    def http_base(self) -> str:
        """Where the supervisor's HTTP is."""
        return f"http://127.0.0.1:{self.environment['HTTP_PORT']}"

    def http(self, method: str, path: str, token: str = API_TOKEN) -> tuple[int, str]:
        """Ask the supervisor by HTTP; status and body."""
        url = f"{self.http_base}{path}"
        headers = {"Authorization": f"Bearer {token}"}
        return _ask(urllib.request.Request(url, method=method, headers=headers))


def look_for_phi(stack: Stack) -> None:
    """What a running stack shows is searched, as its files are when they are removed.

    A part that a test has killed or stopped shows nothing.
    """
    for port in (stack.environment["HTTP_PORT"], stack.environment["VOICE_AGENT_PORT"]):
        for path in ("/health", "/metrics"):
            token = {"Authorization": f"Bearer {stack.environment['API_TOKEN']}"}
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=token)
            with suppress(OSError):
                phi_watch.look(f"{stack.path.name}:{port}{path}", _ask(request, SHOWN_S)[1])


def hears(call: ActiveCall, tone_hz: float, since_ns: int = 0) -> bool:
    """Whether most of what the caller has heard is this tone."""
    return recording.power_share(recording.timeline(call.heard_since(since_ns)), tone_hz) > 0.5


def _ask(request: urllib.request.Request, within_s: float = PATIENCE_S) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(request, timeout=within_s) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def _is_worker(process: Path, variable: bytes) -> bool:
    try:
        command = (process / "cmdline").read_bytes().split(b"\0")
        return b"shim" in command and variable in (process / "environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False  # it has ended meanwhile, or is somebody else's
