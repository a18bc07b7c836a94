"""The phone of a load test, in a process of its own: `python -m loadtest.load_phone --fd N`.

locust has a greenlet per caller, and nothing in its process keeps a beat of 20 ms. So calls are
made here, by asyncio: orders (`load_plan.Order`) come in as lines of JSON on the socket that is
descriptor N, and the report of each call goes back on it (`load_figures.CallReport`). When the
socket is closed, all calls are hung up, and the phone ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import sys
import time
from typing import Final

import msgspec
import uvloop

from loadtest.load_figures import CallReport, judge
from loadtest.load_plan import CallOrder, HangUp, Order
from loadtest.load_script import script
from loadtest.phone_plan import CallPlan, CallRecord
from loadtest.sip_message import SipError
from loadtest.sip_phone import ActiveCall, SipPhone

NICENESS: Final = -10
"""Callers have machines of their own, so the system under test must not slow them down here."""
GRACE_S: Final = 0.5
"""Beyond a caller's patience: the phone itself ends a call that rings for too long."""


class LoadPhone:
    """Carries out the orders of one peer; `serve` until it closes."""

    def __init__(self, phone: SipPhone, writer: asyncio.StreamWriter) -> None:
        self._phone, self._writer = phone, writer
        self._calls: dict[int, asyncio.Task[None]] = {}

    async def serve(self, reader: asyncio.StreamReader) -> None:
        """Read orders until the end of the stream, then end all calls.

        Raises:
            msgspec.DecodeError: the peer wrote something else.
        """
        decoder = msgspec.json.Decoder(Order)
        try:
            async for line in reader:
                match decoder.decode(line):
                    case CallOrder() as order:
                        self._begin(order)
                    case HangUp(number=number) if number in self._calls:
                        self._calls[number].cancel()
        finally:
            for call in self._calls.values():
                call.cancel()
            await asyncio.gather(*self._calls.values(), return_exceptions=True)

    def _begin(self, order: CallOrder) -> None:
        call = asyncio.create_task(self._call(order), name=f"order {order.number}")
        self._calls[order.number] = call
        call.add_done_callback(lambda _: self._calls.pop(order.number))

    async def _call(self, order: CallOrder) -> None:
        """Make the call and report on it; unless canceled: then it is hung up, and no report."""
        # In a thread: the first of its kind takes longer than the pacer may wait.
        said = await asyncio.to_thread(script, order.sound)
        began_s = time.monotonic()
        try:
            report = judge(order, said, await self._record(order, said.audio))
        except (SipError, OSError, TimeoutError) as error:
            reason = str(error) or f"no answer within {order.patience_s:g} s"
            report = CallReport(number=order.number, invited_at_s=began_s, failure=reason)
        self._writer.write(msgspec.json.encode(report) + b"\n")

    async def _record(self, order: CallOrder, audio: bytes) -> CallRecord:
        call = self._phone.start(
            CallPlan(
                to=order.to,
                from_user="load",
                audio=audio,
                seconds=order.seconds,
                ring_seconds=order.patience_s,
                cancel_after=0.0 if order.cancel else None,
            )
        )
        try:
            async with asyncio.timeout(order.patience_s + GRACE_S):
                await call.answered()
            return await asyncio.shield(call.record)
        finally:
            await _end(call)


async def _end(call: ActiveCall) -> None:
    """See a call that nobody wants any more to its end: BYE if it was answered, else CANCEL."""
    if call.record.done():
        return
    call.hang_up()
    # A far end without a sign of life can't be told: RFC 3261 section 9.1 wants a response first.
    await asyncio.wait({call.record}, timeout=GRACE_S)
    call.record.cancel()
    await asyncio.wait({call.record})


async def run(peer: socket.socket, host: str) -> None:
    """Serve the peer with a phone at this address. OSError if it is not ours."""
    reader, writer = await asyncio.open_connection(sock=peer)
    async with SipPhone(host) as phone:
        await LoadPhone(phone, writer).serve(reader)
    writer.close()


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.load_phone", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="descriptor of a connected socket")
    parser.add_argument("--host", default="127.0.0.1", help="the phone's own IPv4 address")
    options = parser.parse_args()
    peer = socket.socket(fileno=options.fd)
    with contextlib.suppress(PermissionError):  # it is measured how well the pace was kept
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    try:
        uvloop.run(run(peer, options.host))
    except OSError as error:
        sys.stderr.write(f"load_phone: {options.host}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
