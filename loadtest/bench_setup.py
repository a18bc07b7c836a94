"""How fast are calls set up, and how many per second?

    python -m loadtest.bench_setup --calls 100 --rate 20 [--asterisk real|stand-in] [--hold 2]
                                   [--json FILE]

Calls come by SIP at a steady rate to the whole system: Asterisk, supervisor, workers, and the
sample voice agent, each with the machine's CPUs as the system distributes them. Each caller hangs
up after a while. Three times are taken of each call:

- *ready*: from the supervisor's receipt of StasisStart until the caller's and the media leg are in
  the bridge, the media's address is known, and the voice server has accepted the stream. From the
  supervisor's log: `setup_ms` of `call_ended` is the first part of it, and the time of
  `stream_started` less that of `call_placed`, which is written as StasisStart arrives, the second;
  the later of both counts.
- *first packet*: from the caller's receipt of the 200 OK to the first RTP packet it hears.
- *first audio*: the same to the first packet with sound, which is the voice agent's greeting.

The exit code is 1 unless all calls were answered, became ready and were heard, and nothing of them
is left in Asterisk.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import uvloop

from deploy.asterisk_rootfs import obstacle
from loadtest.bench_programs import raise_fd_limit
from loadtest.command_line import check_ranges, write_json
from loadtest.phone_plan import CallPlan, CallRecord
from loadtest.recording import first_sound_ns
from loadtest.sip_phone import SipPhone
from loadtest.stack import Stack, StackError

SETTLE_S: Final = 20.0
MAX_CALLS: Final = 20_000
LOOK_S: Final = 0.5
MAX_RATE: Final = 200

Entry = Mapping[str, Any]


class Times(msgspec.Struct, frozen=True):
    """How long something took, over all calls for which it happened."""

    calls: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float

    def __str__(self) -> str:
        return (
            f"p50 {self.p50_ms:7.1f}  p95 {self.p95_ms:7.1f}  p99 {self.p99_ms:7.1f}  "
            f"max {self.max_ms:7.1f} ms  ({self.calls} calls)"
        )


class SetupFigures(msgspec.Struct, frozen=True):
    """What was measured.

    `set_ups_per_second` is the rate at which calls became ready, from the first to the last.
    `worker_memory_mb` is that of all workers after a tenth of the run, and at its end.
    `setup_ms` and `stream_ms` are the two parts of `ready_ms`. None: there was no call to measure.
    """

    asterisk: str
    calls: int
    asked_per_second: float
    set_ups_per_second: float
    failed_calls: int
    left_in_asterisk: int
    worker_memory_mb: list[float]
    ready_ms: Times | None
    setup_ms: Times | None
    stream_ms: Times | None
    first_packet_ms: Times | None
    first_audio_ms: Times | None

    @property
    def ok(self) -> bool:
        """Whether every call was served, and nothing is left of them."""
        return not self.failed_calls and not self.left_in_asterisk

    def lines(self) -> list[str]:
        """For people."""
        rows = (
            ("ready", self.ready_ms),
            ("  bridged, media", self.setup_ms),
            ("  stream accepted", self.stream_ms),
            ("first packet heard", self.first_packet_ms),
            ("first audio heard", self.first_audio_ms),
        )
        return [
            f"{self.calls} calls on the {self.asterisk} Asterisk, {self.asked_per_second:g} per "
            f"second asked for, {self.set_ups_per_second:.1f} set up per second",
            *(f"{name:<20}{times}" for name, times in rows if times is not None),
            "memory of all workers after a tenth of the run, and at its end: "
            + ", ".join(f"{value:.1f} MB" for value in self.worker_memory_mb),
            f"failed calls: {self.failed_calls}, left in Asterisk: {self.left_in_asterisk}",
        ]


class SetUp(msgspec.Struct, frozen=True):
    """A call's set-up as the supervisor saw it; `entered_s` is the wall clock's time."""

    entered_s: float
    setup_ms: float
    stream_ms: float

    @property
    def ready_ms(self) -> float:
        """From StasisStart until all is there."""
        return max(self.setup_ms, self.stream_ms)


def set_ups(
    placed: Iterable[Entry], started: Iterable[Entry], ended: Iterable[Entry]
) -> list[SetUp]:
    """Join the supervisor's log lines of one call; calls that lack one were not set up."""
    stream_at = {entry["call_id"]: _time_s(entry) for entry in started}
    setup_ms = {entry["call_id"]: entry["setup_ms"] for entry in ended}
    found = []
    for entry in placed:
        call_id, entered_s = entry["call_id"], _time_s(entry)
        if call_id in stream_at and setup_ms.get(call_id) is not None:
            stream_ms = (stream_at[call_id] - entered_s) * 1000
            found.append(SetUp(entered_s, setup_ms[call_id], stream_ms))
    return found


def _time_s(entry: Entry) -> float:
    return datetime.fromisoformat(entry["timestamp"]).timestamp()


def times(values_ms: Sequence[float]) -> Times | None:
    """Sum up; None for nothing."""
    if not values_ms:
        return None
    p50, p95, p99 = (float(np.percentile(values_ms, rank)) for rank in (50, 95, 99))
    return Times(len(values_ms), p50, p95, p99, max(values_ms))


def rate_per_s(found: Sequence[SetUp]) -> float:
    """How many set-ups per second there were; 0 for fewer than two."""
    if len(found) < 2:
        return 0.0
    ready_s = [each.entered_s + each.ready_ms / 1000 for each in found]
    return (len(found) - 1) / (max(ready_s) - min(ready_s))


def heard_ms(record: CallRecord) -> tuple[float | None, float | None]:
    """From the answer to the first packet, and to the first sound."""
    answered_s = record.answered_at
    if answered_s is None or not record.packets:
        return None, None
    sound_ns = first_sound_ns(record.packets)
    first_ms = record.packets[0].at_ns / 1e6 - answered_s * 1000
    return first_ms, None if sound_ns is None else sound_ns / 1e6 - answered_s * 1000


async def place_calls(uri: str, calls: int, rate: float, hold_s: float) -> list[CallRecord]:
    """Call so often, at a steady rate, by absolute times; each call ends `hold_s` after its answer.

    The records come when all calls are over.
    """
    plan = CallPlan(to=uri, seconds=hold_s)  # who speaks may interrupt the greeting at once
    began_s = time.monotonic()
    async with SipPhone() as phone:
        started = []
        for number in range(calls):
            await asyncio.sleep(max(0.0, began_s + number / rate - time.monotonic()))
            started.append(phone.start(plan).record)
        return list(await asyncio.gather(*started))


async def measure(options: argparse.Namespace) -> SetupFigures:
    """Start the system, call, and sum up; raises StackError when a part of it fails."""
    stack = Stack(real=options.asterisk == "real")
    await asyncio.to_thread(stack.__enter__)
    try:
        uri = stack.sip_uri
        memory: list[float] = []
        looking = asyncio.create_task(_look_at_memory(stack, memory))
        records = await place_calls(uri, options.calls, options.rate, options.hold)
        looking.cancel()
        await asyncio.to_thread(_settle, stack)
        log = [stack.events(name) for name in ("call_placed", "stream_started", "call_ended")]
        left = await asyncio.to_thread(stack.left_in_asterisk)
    finally:
        await asyncio.to_thread(stack.__exit__)
    found = set_ups(*log)
    heard = [heard_ms(record) for record in records]
    audible = sum(sound is not None for _, sound in heard)
    return SetupFigures(
        asterisk=options.asterisk,
        calls=options.calls,
        asked_per_second=options.rate,
        set_ups_per_second=rate_per_s(found),
        failed_calls=options.calls - min(audible, len(found)),
        left_in_asterisk=sum(left.values()),
        worker_memory_mb=[memory[len(memory) // 10], memory[-1]],
        ready_ms=times([each.ready_ms for each in found]),
        setup_ms=times([each.setup_ms for each in found]),
        stream_ms=times([each.stream_ms for each in found]),
        first_packet_ms=times([first for first, _ in heard if first is not None]),
        first_audio_ms=times([sound for _, sound in heard if sound is not None]),
    )


async def _look_at_memory(stack: Stack, found_mb: list[float]) -> None:
    """Note the memory of all workers again and again, until cancelled."""
    while True:
        workers = await asyncio.to_thread(stack.workers)
        found_mb.append(sum(worker["rss_bytes"] for worker in workers) / 1e6)
        await asyncio.sleep(LOOK_S)


def _settle(stack: Stack) -> None:
    """Wait until the supervisor has written the end of each call that it took."""
    stack.wait_until(
        lambda: len(stack.events("call_ended")) >= len(stack.events("call_placed")),
        SETTLE_S,
        "all calls have ended",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.bench_setup",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--rate", type=float, default=20.0, help="calls per second")
    parser.add_argument("--hold", type=float, default=2.0, help="seconds that a call lasts")
    parser.add_argument("--asterisk", choices=("real", "stand-in"), default="real")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args(arguments)
    check_ranges(
        parser,
        ("--calls", options.calls, 1, MAX_CALLS),
        ("--rate", options.rate, 0.1, MAX_RATE),
        ("--hold", options.hold, 0.5, 600),
    )
    if options.asterisk == "real" and (problem := obstacle()):
        parser.error(f"--asterisk is real: {problem} Allowed here is stand-in.")
    raise_fd_limit()
    try:
        figures = uvloop.run(measure(options))
    except StackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(figures.lines()))
    if options.json is not None:
        write_json(options.json, figures)
    return 0 if figures.ok else 1


if __name__ == "__main__":
    sys.exit(main())
