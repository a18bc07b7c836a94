"""How soon is the caller's line silent after the voice server has sent `clear`?

    python -m loadtest.clear_latency [--trials 1000] [--calls 100] [--json FILE]

One real worker on the first CPU serves the calls; this program, on the last, is their voice server
and their Asterisk. All calls speak and are spoken to all the time. A trial picks a call, sends its
`clear` at a random moment, and waits for the first packet of silence. What is measured goes from
the wall clock just before the WebSocket message is written, on the loopback, to the kernel's time
stamp of that packet's arrival (SO_TIMESTAMPNS). So it holds the way of both through the kernel, and
what the pacer makes of it: a frame leaves each 20 ms, so up to 20 ms are due even when all else
takes no time. The aim is a p99 of 21 ms; the exit code is 1 when it is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import msgspec
import numpy as np
import picows
import uvloop

from loadtest import audio
from loadtest.conformance_worker import Leg, RigError, WorkerRig
from loadtest.recording import ReceivedPacket

AIM_P99_MS: Final = 21.0
AHEAD_S: Final = 2.0
"""So much audio waits at the worker for each call."""
PTIME_S: Final = 0.02
PATIENCE_S: Final = 10.0
MAX_CALLS: Final = 300
"""Each takes three file descriptors here, and 1,024 is a usual limit."""


class Figures(msgspec.Struct, frozen=True):
    """What was measured, in milliseconds."""

    trials: int
    calls: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    aim_p99_ms: float = AIM_P99_MS

    @property
    def met(self) -> bool:
        """Whether the aim was met."""
        return self.p99_ms <= self.aim_p99_ms

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"{self.trials} trials under {self.calls} calls",
            f"clear to silence: p50 {self.p50_ms:.2f} ms, p99 {self.p99_ms:.2f} ms, "
            f"max {self.max_ms:.2f} ms",
            f"aim: p99 <= {self.aim_p99_ms:g} ms: {'met' if self.met else 'missed'}",
        ]


def figures(took_ns: Sequence[int], calls: int) -> Figures:
    """Sum up the trials' times, given in nanoseconds."""
    took_ms = np.array(took_ns) / 1e6
    p50, p99 = (float(np.percentile(took_ms, rank)) for rank in (50, 99))
    return Figures(len(took_ns), calls, p50, p99, float(took_ms.max()))


class VoiceSide(picows.WSListener):
    """The voice server's end of a call; what the caller says is counted and forgotten."""

    def __init__(self, calls: dict[str, asyncio.Future[VoiceSide]]) -> None:
        self._calls = calls
        self._transport: picows.WSTransport
        self._stream_sid = ""
        self.received = 0

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.send_close(picows.WSCloseCode.OK)
            transport.disconnect()
        elif self._stream_sid:
            self.received += 1
        else:
            message: dict[str, Any] = json.loads(frame.get_payload_as_bytes())
            if message["event"] == "start":
                self._stream_sid = message["streamSid"]
                self._calls[message["start"]["callSid"]].set_result(self)

    def play(self, sound: bytes) -> None:
        """Send audio to the caller."""
        self._say("media", media={"payload": b64encode(sound).decode()})

    def clear(self) -> None:
        """Ask for silence."""
        self._say("clear")

    def _say(self, event: str, **content: object) -> None:
        message = {"event": event, "streamSid": self._stream_sid, **content}
        self._transport.send(picows.WSMsgType.TEXT, json.dumps(message).encode())


class MeasuredCall:
    """One call, both ends of it.

    Audio that was sent before a clear and after it has different samples, so `stale_packets` can
    count what is heard of the old after the silence, and `dry_packets` silence without a clear.
    """

    def __init__(self, leg: Leg, voice: VoiceSide) -> None:
        self.leg = leg
        self.stale_packets = 0
        self.dry_packets = 0
        self.audible = False
        self._voice = voice
        self._generation = 1
        self._silent_at: asyncio.Future[int] | None = None
        leg.on_packet = self._hear

    def play(self, seconds: float) -> None:
        """Send so much more audio to the caller; nothing while a clear is under way."""
        if self._silent_at is not None:
            return
        sample = bytes([self._generation % 100 + 1])
        self._voice.play(sample * round(seconds * audio.RATE_HZ))

    async def clear(self) -> int:
        """Clear the audio, and play other audio then; returns how long it took in nanoseconds."""
        self._silent_at = asyncio.get_running_loop().create_future()
        sent_ns = time.time_ns()
        self._voice.clear()
        async with asyncio.timeout(PATIENCE_S):
            silent_ns = await self._silent_at
        self._silent_at = None
        self._generation += 1
        self.play(AHEAD_S)
        return silent_ns - sent_ns

    def _hear(self, packet: ReceivedPacket) -> None:
        was_audible, self.audible = self.audible, packet.payload != audio.SILENT_FRAME
        if self.audible:
            self.stale_packets += packet.payload[0] != self._generation % 100 + 1
        elif self._silent_at is not None and not self._silent_at.done():
            self._silent_at.set_result(packet.at_ns)
        elif was_audible:
            self.dry_packets += 1


class Load:
    """So many calls on one worker, all of them speaking and being spoken to."""

    def __init__(self, calls: int, cpu: int) -> None:
        self.calls: list[MeasuredCall] = []
        self._count = calls
        self._rig = WorkerRig(cpu=cpu)
        self._owned: AsyncExitStack

    async def __aenter__(self) -> Load:
        async with AsyncExitStack() as owned:
            await owned.enter_async_context(self._rig)
            expected: dict[str, asyncio.Future[VoiceSide]] = {}
            server = await picows.ws_create_server(lambda _: VoiceSide(expected), "127.0.0.1", 0)
            owned.callback(server.close)
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            for _ in range(self._count):
                leg = self._rig.start_call(url)
                opened = expected[leg.call.call_sid] = asyncio.get_running_loop().create_future()
                async with asyncio.timeout(PATIENCE_S):
                    self.calls.append(MeasuredCall(leg, await opened))
            await self._start_talking(owned)
            self._owned = owned.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._owned.aclose()

    async def _start_talking(self, owned: AsyncExitStack) -> None:
        for call in self.calls:
            call.play(AHEAD_S)
        for turn in (self._speak, self._play_on):
            owned.push_async_callback(_stop, asyncio.create_task(turn()))
        await self._rig.until(
            lambda: all(call.audible for call in self.calls), "audio on all calls"
        )

    async def _speak(self) -> None:
        """The callers speak: each sends a frame per 20 ms, spread over them."""
        voice = [call.leg for call in self.calls]
        frame = audio.speech_burst(PTIME_S)
        async for number in _turns(PTIME_S / len(voice)):
            voice[number % len(voice)].speak(frame)

    async def _play_on(self) -> None:
        """The voice server goes on speaking, in pieces of a second, one call after the other."""
        async for number in _turns(1 / len(self.calls)):
            self.calls[number % len(self.calls)].play(1.0)


async def measure(calls: int, trials: int, cpu: int) -> Figures:
    """Measure with so many calls on a worker on this CPU.

    Raises:
        RigError: the worker failed, or a call's audio was not what it should be.
        TimeoutError: a call did not begin, or did not fall silent.
    """
    async with Load(calls, cpu) as load:
        took_ns = []
        for _ in range(trials):
            await asyncio.sleep(random.uniform(0, PTIME_S))
            took_ns.append(await _audible(load.calls).clear())
        stale = sum(call.stale_packets for call in load.calls)
        dry = sum(call.dry_packets for call in load.calls)
    if stale or dry:
        came = f"{stale} packets of cleared audio, {dry} times silence without a clear"
        raise RigError("cleared audio silent and other audio heard", came)
    return figures(took_ns, calls)


def _audible(calls: Sequence[MeasuredCall]) -> MeasuredCall:
    """Any call whose caller hears something now; the one of the last trial may not yet."""
    return random.choice([call for call in calls if call.audible])


async def _turns(interval_s: float) -> AsyncIterator[int]:
    """Number after number, one per interval, by absolute deadlines."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    number = 0
    while True:
        ahead_s = start + number * interval_s - loop.time()
        if ahead_s > 0:
            await asyncio.sleep(ahead_s)
        yield number
        number += 1


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.clear_latency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args(arguments)
    if options.trials < 1:
        parser.error(f"--trials is {options.trials}, allowed is 1 or more")
    if not 2 <= options.calls <= MAX_CALLS:
        parser.error(f"--calls is {options.calls}, allowed is 2 to {MAX_CALLS}")
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) == 1:
        print("there is one CPU only: the worker has to share it with this program")
    os.sched_setaffinity(0, {cpus[-1]})
    try:
        measured = uvloop.run(measure(options.calls, options.trials, cpus[0]))
    except (RigError, TimeoutError) as error:
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print("\n".join(measured.lines()))
    if options.json is not None:
        options.json.write_bytes(msgspec.json.encode(measured) + b"\n")
    return 0 if measured.met else 1


if __name__ == "__main__":
    sys.exit(main())
