"""This stack's side under examination: a real worker between a scripted voice server and Asterisk.

async with StackSide() as stack, stack.call() as call:
    await call.stream.play(audio)
    await call.until(lambda: call.leg.heard == audio, "the audio")
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Final

from loadtest.conformance_report import Unmet
from loadtest.conformance_server import PATIENCE_S, ScriptedServer, Stream
from loadtest.conformance_worker import LOOK_AGAIN_S, Leg, WorkerRig
from shim.control import CallClosed

AUTH_TOKEN: Final = "0123456789abcdef0123456789abcdef"
BEARER_TOKEN: Final = "a-bearer-token"


class StackCall:
    """A call through a worker, seen from both ends."""

    def __init__(self, rig: WorkerRig, leg: Leg, stream: Stream) -> None:
        self.rig = rig
        self.leg = leg
        self.stream = stream

    async def speak(self, frames: int) -> list[bytes]:
        """The caller says so many frames, one per 20 ms; returns them. Each can be told apart."""
        spoken = [bytes([number % 251]) * 160 for number in range(frames)]
        loop = asyncio.get_running_loop()
        start = loop.time()
        for number, frame in enumerate(spoken):
            await asyncio.sleep(max(0.0, start + number * 0.02 - loop.time()))
            self.leg.speak(frame)
        return spoken

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something is so; raises Unmet."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                raise Unmet(what, f"nothing of the kind within {PATIENCE_S:g} s")
            await asyncio.sleep(LOOK_AGAIN_S)

    async def wait_packets(self, count: int) -> None:
        """Wait until so many more packets have reached Asterisk."""
        enough = len(self.leg.packets) + count
        await self.until(lambda: len(self.leg.packets) >= enough, f"{count} RTP packets")

    def end(self) -> None:
        """The caller hangs up."""
        self.rig.end_call(self.leg)


class StackSide:
    """Two workers, one with tokens and one without, and the voice server that both call.

    `environ` are settings of both on top of that.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        tokens = {"TWILIO_AUTH_TOKEN": AUTH_TOKEN, "STREAM_BEARER_TOKEN": BEARER_TOKEN}
        self.server = ScriptedServer()
        self.signing = WorkerRig({**tokens, **(environ or {})})
        self.plain = WorkerRig(environ)
        self._owned: AsyncExitStack

    async def __aenter__(self) -> StackSide:
        async with AsyncExitStack() as owned:
            for part in (self.server, self.signing, self.plain):
                await owned.enter_async_context(part)
            self._owned = owned.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._owned.aclose()

    @asynccontextmanager
    async def call(
        self, parameters: Mapping[str, str] | None = None, *, signed: bool = False
    ) -> AsyncIterator[StackCall]:
        """A call, its stream open and its media connected; leaving the block ends it.

        `signed` says which of the two workers serves it. Raises Unmet when no stream is opened.
        """
        rig = self.signing if signed else self.plain
        leg = rig.start_call(self.server.url, parameters)
        call_sid = leg.call.call_sid
        try:
            yield StackCall(rig, leg, await self.server.next_stream(call_sid))
        finally:
            rig.end_call(leg)
            await rig.until(
                lambda: any(closed.call_sid == call_sid for closed in rig.of(CallClosed)),
                f"CallClosed of {call_sid}",
            )


def expect(what: str, expected: object, came: object) -> None:
    """Raise Unmet unless both are equal."""
    if expected != came:
        raise Unmet(f"{what} {expected!r}", repr(came))


def expect_that(holds: bool, expected: str, came: object) -> None:
    """Raise Unmet unless `holds`."""
    if not holds:
        raise Unmet(expected, repr(came))
