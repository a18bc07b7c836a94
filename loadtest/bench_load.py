"""The load generator `c/load.c`, and what it reports."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from loadtest.bench_programs import BenchError, Program, compiled

POLL_S: Final = 0.02
REPORT_S: Final = 15.0
SPARE_PORTS: Final = 50
"""Ports of what serves the calls, more than there are calls: other programs may have some."""


class LoadStatus(msgspec.Struct, frozen=True):
    """How many calls have been heard, and how many have had a frame of theirs come back."""

    latched: int
    echoing: int


class LoadReport(msgspec.Struct, frozen=True):
    """What a load generator saw between `measure` and `stop`.

    `sent` and `received` count packets. Gaps are those between a call's packets, by the kernel's
    time stamps of their arrival; `off_2ms_fraction` of them are more than 2 ms off 20 ms.
    `lost_fraction` comes from the sequence numbers. `loss_fraction` of the frames that were sent
    never came back, though they had a second more. `round_trip_*` is how long the others took, all
    buffers included. `late_*` is how late the load generator itself sent; it `fell_behind` if more
    than 0.1 % of its packets were more than 2 ms late.
    """

    calls: int
    seconds: float
    sent: int
    unsent: int
    received: int
    received_per_second_per_call: float
    gap_p50_ms: float
    gap_p99_ms: float
    gap_p999_ms: float
    gap_max_ms: float
    off_2ms_fraction: float
    lost_fraction: float
    loss_fraction: float
    round_trip_p50_ms: float
    round_trip_p99_ms: float
    late_p99_ms: float
    late_max_ms: float
    late_2ms_fraction: float
    fell_behind: bool

    @property
    def frame_pairs_per_s(self) -> float:
        """Pairs of one frame in and one frame out, over all calls."""
        return (self.sent + self.received) / 2 / self.seconds


class Load:
    """A running load generator: the phones, or Asterisk's side, of so many calls.

    Call i has the UDP port `first_port` + i, and is to be served from any of `peer_ports`, which
    come after these. Raises BenchError when a port is taken.
    """

    def __init__(self, calls: int, first_port: int, directory: Path) -> None:
        self.calls = calls
        self.first_port = first_port
        self.peer_ports = range(first_port + calls, first_port + 2 * calls + SPARE_PORTS)
        numbers = (calls, first_port, self.peer_ports[0], self.peer_ports[-1])
        command = [str(compiled("load")), *map(str, numbers)]
        self._program = Program(command, directory)

    async def __aenter__(self) -> Self:
        await self._program.__aenter__()
        try:
            await self._program.hear()
        except BaseException as error:
            await self._program.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._program.__aexit__(kind, error, traceback)

    async def status(self) -> LoadStatus:
        """How far the calls have come."""
        self._program.say("status")
        return msgspec.json.decode(await self._program.hear(), type=LoadStatus)

    async def until_echoing(
        self, calls: int, seconds: float, server: Program | None = None
    ) -> None:
        """Wait until so many calls have had audio both ways; raises BenchError.

        `server` is who serves them, whose story belongs to the error.
        """
        deadline = time.monotonic() + seconds
        while (status := await self.status()).echoing < calls:
            if time.monotonic() > deadline:
                story = f": {server.story}" if server else ""
                raise BenchError(
                    f"after {seconds:g} s only {status.echoing} of {calls} calls have audio "
                    f"both ways ({status.latched} were heard){story}"
                )
            await asyncio.sleep(POLL_S)

    async def measure(self, seconds: float) -> None:
        """Measure for so long; the report follows with `report`."""
        self._program.say("measure")
        await asyncio.sleep(seconds)
        self._program.say("stop")

    async def report(self) -> LoadReport:
        """What was measured; it takes a second."""
        return msgspec.json.decode(await self._program.hear(REPORT_S), type=LoadReport)
