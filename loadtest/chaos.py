"""`python -m loadtest.chaos --minutes M --calls N --seed S`: kill everything, and count the calls.

Keeps N calls up on the real Asterisk (or, with --stand-in, on the stand-in), and every few seconds
does one of: SIGKILL or SIGSTOP a worker, SIGKILL the supervisor and start it again, cut or silence
the connection to ARI, replace all workers by SIGHUP. At the end: how many calls were placed and
dropped, the gaps that callers heard, and what was left behind. Ends with status 0 only if no call
was dropped and nothing is left.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import uvloop

from loadtest import audio
from loadtest.chaos_report import CallOutcome, Fault, lines, summarize
from loadtest.command_line import write_json
from loadtest.phone_plan import CallPlan, CallRecord
from loadtest.sip_phone import SipPhone
from loadtest.stack import Stack, StackError
from loadtest.tcp_proxy import TcpProxy

KINDS: Final = (
    "worker SIGKILL",
    "worker SIGSTOP",
    "supervisor SIGKILL",
    "ARI cut",
    "ARI silent",
    "rolling restart",
)
PAUSE_S: Final = (3.0, 7.0)
"""Between two faults: the system has recovered from the one before."""
CALL_S: Final = (15.0, 45.0)
SILENCE_S: Final = 12.0
"""Longer than the supervisor's own pings take to notice that ARI is silent."""
CALLS_PER_S: Final = 10.0
SETTLE_S: Final = 20.0


class Chaos:
    """One run: callers, faults, and the records of both."""

    def __init__(self, stack: Stack, proxy: TcpProxy, seed: int, kinds: list[str]) -> None:
        self._stack = stack
        self._proxy = proxy
        self._random = random.Random(seed)
        self._ending = False
        known: dict[str, Callable[[], Awaitable[None]]] = {
            "worker SIGKILL": lambda: self._signal_worker(signal.SIGKILL),
            "worker SIGSTOP": lambda: self._signal_worker(signal.SIGSTOP),
            "supervisor SIGKILL": self._kill_supervisor,
            "ARI cut": self._cut_ari,
            "ARI silent": self._silence_ari,
            "rolling restart": self._replace_workers,
        }
        self._kinds = {kind: known[kind] for kind in kinds}
        self.outcomes: list[CallOutcome] = []
        self.faults: list[Fault] = []

    async def run(self, calls: int, seconds: float) -> None:
        """Keep calls up and do harm for so long, then let the calls end."""
        async with SipPhone() as phone, asyncio.TaskGroup() as group:
            for _ in range(calls):
                group.create_task(self._keep_calling(phone))
                await asyncio.sleep(1 / CALLS_PER_S)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                await asyncio.sleep(self._random.uniform(*PAUSE_S))
                await self._harm()
            self._ending = True

    async def _keep_calling(self, phone: SipPhone) -> None:
        while not self._ending:
            said = audio.speech_burst(1.0) + audio.silence(2.0)
            plan = CallPlan(
                to=self._stack.sip_uri,
                audio=said,
                audio_loop=True,
                seconds=self._random.uniform(*CALL_S),
            )
            outcome = _outcome(await phone.call(plan))
            self.outcomes.append(outcome)
            if outcome.dropped:
                print(f"DROPPED after {outcome.seconds:.1f} s: {outcome}", flush=True)

    async def _harm(self) -> None:
        kind = self._random.choice(list(self._kinds))
        at_ns = time.monotonic_ns()
        moved_before = len(self._stack.events("call_moved"))
        await self._kinds[kind]()
        await asyncio.to_thread(self._stack.wait_until, self._stack.is_ok, 20, f"ok after {kind}")
        moved = len(self._stack.events("call_moved")) - moved_before
        print(f"{kind:<20} calls moved: {moved}", flush=True)
        self.faults.append(Fault(kind, at_ns, moved))

    async def _signal_worker(self, number: signal.Signals) -> None:
        workers = await asyncio.to_thread(self._stack.workers)
        pid = int(self._random.choice(workers)["pid"])
        os.kill(pid, number)
        await asyncio.to_thread(
            self._stack.wait_until, lambda: not _is_alive(pid), 5, "the worker is gone"
        )

    async def _kill_supervisor(self) -> None:
        self._stack.supervisor.kill()
        await asyncio.to_thread(self._stack.start_supervisor)

    async def _cut_ari(self) -> None:
        self._proxy.cut()

    async def _silence_ari(self) -> None:
        self._proxy.silent = True
        await asyncio.sleep(SILENCE_S)
        self._proxy.silent = False

    async def _replace_workers(self) -> None:
        renewed = len(self._stack.events("renewed"))
        self._stack.supervisor.send(signal.SIGHUP)
        await asyncio.to_thread(
            self._stack.wait_until,
            lambda: len(self._stack.events("renewed")) > renewed,
            20,
            "all workers are replaced",
        )


def _outcome(record: CallRecord) -> CallOutcome:
    """Keep of a call what the report needs; the packets of hundreds of calls are too much."""
    return CallOutcome(
        answered=record.outcome == "answered",
        ended_by_caller=record.ended_by == "caller",
        arrivals_ns=[packet.at_ns for packet in record.packets],
    )


def _is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _leaks(stack: Stack) -> dict[str, int]:
    """What is left when all calls are over; it may take a moment to go."""

    def found() -> dict[str, int]:
        leased = sum(int(worker["ports"]["leased"]) for worker in stack.workers())
        return {**stack.left_in_asterisk(), "leased ports": leased}

    try:
        stack.wait_until(lambda: not any(found().values()), SETTLE_S, "nothing is left")
    except StackError as error:
        print(error, file=sys.stderr)
    return found()


async def _run(options: argparse.Namespace) -> int:
    stack = Stack(real=not options.stand_in)
    base = urlsplit(stack.environment["ARI_BASE"])
    async with TcpProxy((str(base.hostname), int(base.port or 0))) as proxy:
        stack.for_supervisor["ARI_BASE"] = f"http://127.0.0.1:{proxy.port}"
        # In a thread: the supervisor's start waits for ARI, which comes through our proxy.
        await asyncio.to_thread(stack.__enter__)
        try:
            chaos = Chaos(stack, proxy, options.seed, options.fault or list(KINDS))
            await chaos.run(options.calls, options.minutes * 60)
            leaks = await asyncio.to_thread(_leaks, stack)
        finally:
            await asyncio.to_thread(stack.__exit__)
    report = summarize(chaos.outcomes, chaos.faults, leaks)
    print("\n".join(lines(report)))
    if options.json is not None:
        write_json(options.json, report)
    return 0 if report.ok else 1


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault", choices=KINDS, action="append", help="only these; repeatable")
    parser.add_argument("--stand-in", action="store_true", help="instead of the real Asterisk")
    parser.add_argument("--json", type=Path, help="write the report to this file, too")
    return uvloop.run(_run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
