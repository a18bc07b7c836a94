"""How soon does the sample voice agent answer, with many conversations on one core?

    python -m loadtest.conversations --calls 50 [--turns 6] [--asterisk real|stand-in] [--json FILE]

Callers speak in turns to the offline agent, which is bound to one CPU and says each turn back. The
response time is what a caller perceives: from the end of their speech to the first sound of the
answer, PAUSE_MS of voice_agent/speech.py included, which the agent waits for before it takes a
turn for over. With it comes how clean the audio was: packets that never came, and the gaps between
those that did. The exit code is 1 unless every turn was answered and nothing was lost.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import uvloop

from loadtest import audio
from loadtest.bench_programs import cpu_ns, pin
from loadtest.command_line import write_json
from loadtest.phone_plan import CallPlan, CallRecord
from loadtest.recording import continuity, first_sound_ns
from loadtest.sip_phone import SipPhone
from loadtest.stack import Stack

GREETING_S: Final = 2.5
SPEECH_S: Final = 1.0
PAUSE_S: Final = 3.0
CALLS_PER_S: Final = 10.0
MAX_CALLS: Final = 1000


class ResponseTimes(msgspec.Struct, frozen=True):
    """What was measured; `agent_cpu` is the voice agent's share of its core over the whole run."""

    calls: int
    turns: int
    unanswered: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    agent_cpu: float
    lost: int
    gap_p99_ms: float
    gap_max_ms: float

    def __str__(self) -> str:
        return (
            f"{self.calls} conversations, {self.turns} turns, {self.unanswered} not answered\n"
            f"response time: p50 {self.p50_ms:.0f}, p95 {self.p95_ms:.0f}, p99 {self.p99_ms:.0f}, "
            f"max {self.max_ms:.0f} ms; the agent used {self.agent_cpu:.0%} of its core\n"
            f"audio: {self.lost} packets lost, gaps p99 {self.gap_p99_ms:.1f}, "
            f"max {self.gap_max_ms:.1f} ms (20 are due)"
        )


def response_ms(record: CallRecord, turns: int) -> list[float | None]:
    """The response time of each turn, None where no answer came before the next turn."""
    if record.first_sent_ns is None:
        return [None] * turns
    times: list[float | None] = []
    for turn in range(turns):
        spoken_s = GREETING_S + turn * (SPEECH_S + PAUSE_S) + SPEECH_S
        spoken_ns = record.first_sent_ns + int(spoken_s * 1e9)
        sound_ns = first_sound_ns(record.packets, spoken_ns)
        answered = sound_ns is not None and sound_ns < spoken_ns + PAUSE_S * 1e9
        times.append((sound_ns - spoken_ns) / 1e6 if sound_ns is not None and answered else None)
    return times


def figures(records: Sequence[CallRecord], turns: int, agent_cpu: float) -> ResponseTimes:
    """Put the turns of all calls together; raises ValueError if no turn at all was answered."""
    every = [time_ms for record in records for time_ms in response_ms(record, turns)]
    answered = [time_ms for time_ms in every if time_ms is not None]
    if not answered:
        raise ValueError("no turn of any call was answered")
    p50, p95, p99 = (float(value) for value in np.percentile(answered, [50, 95, 99]))
    arrivals = [[packet.at_ns for packet in record.packets] for record in records]
    gaps_ms = np.concatenate([np.diff(times) for times in arrivals]) / 1e6
    return ResponseTimes(
        calls=len(records),
        turns=len(every),
        unanswered=len(every) - len(answered),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        max_ms=max(answered),
        agent_cpu=agent_cpu,
        lost=sum(continuity(record.packets).lost for record in records),
        gap_p99_ms=float(np.percentile(gaps_ms, 99)),
        gap_max_ms=float(gaps_ms.max()),
    )


async def converse(stack: Stack, calls: int, turns: int) -> ResponseTimes:
    """Place the calls, wait for their ends, and measure the agent meanwhile."""
    said = audio.silence(GREETING_S)
    said += (audio.speech_burst(SPEECH_S) + audio.silence(PAUSE_S)) * turns
    plan = CallPlan(to=stack.sip_uri, audio=said, seconds=len(said) / 8000 + 0.2)
    async with SipPhone() as phone:
        loop = asyncio.get_running_loop()
        began, used_ns = loop.time(), cpu_ns(stack.agent.pid)
        running = []
        for _ in range(calls):
            running.append(asyncio.create_task(phone.call(plan)))
            await asyncio.sleep(1 / CALLS_PER_S)
        records = await asyncio.gather(*running)
        share = (cpu_ns(stack.agent.pid) - used_ns) / 1e9 / (loop.time() - began)
        return figures(records, turns, share)


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.conversations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--asterisk", choices=("real", "stand-in"), default="real")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    if not 1 <= options.calls <= MAX_CALLS or options.turns < 1:
        parser.error(f"allowed are 1 to {MAX_CALLS} calls, and 1 turn or more")
    with Stack(real=options.asterisk == "real") as stack:
        pin(stack.agent.pid, {max(os.sched_getaffinity(0))})
        times = uvloop.run(converse(stack, options.calls, options.turns))
    print(times)
    if options.json is not None:
        write_json(options.json, times)
    return 1 if times.unanswered or times.lost else 0


if __name__ == "__main__":
    sys.exit(main())
