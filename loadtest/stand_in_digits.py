"""Telephone-events (RFC 4733): key presses as RTP payloads, both ways. Pure.

A payload is 4 bytes: event, end bit and volume, and the duration in ticks of 8 kHz (section 2.3).
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

EVENTS = "0123456789*#ABCD"  # the event codes 0 to 15 (section 3.2, table 7)
TICKS_PER_MS = 8
STEP_MS = 20
END_BIT = 0x80
VOLUME = 10  # -10 dBm0, as Asterisk sends
END_REPEATS = 3  # against loss (section 2.5.1.4)


class Digit(Struct, frozen=True):
    digit: str
    duration_ms: int


class DigitReceiver:
    """Turns event payloads into digits: one for each event, at the first of its end packets."""

    def __init__(self) -> None:
        self._ended_at: int | None = None

    def push(self, payload: bytes, timestamp: int) -> Digit | None:
        """`timestamp` is the packet's, the same for all packets of one event (section 2.4.1)."""
        if len(payload) < 4 or payload[0] >= len(EVENTS) or not payload[1] & END_BIT:
            return None
        if timestamp == self._ended_at:
            return None
        self._ended_at = timestamp
        return Digit(EVENTS[payload[0]], int.from_bytes(payload[2:4], "big") // TICKS_PER_MS)


def digit_payloads(digit: str, duration_ms: int) -> Iterator[bytes]:
    """The payloads of one key press, one for each 20 ms, then the repeated end."""
    event = EVENTS.index(digit)
    for elapsed_ms in range(STEP_MS, duration_ms, STEP_MS):
        yield _payload(event, VOLUME, elapsed_ms)
    for _ in range(END_REPEATS):
        yield _payload(event, VOLUME | END_BIT, duration_ms)


def _payload(event: int, flags: int, duration_ms: int) -> bytes:
    return bytes((event, flags)) + (duration_ms * TICKS_PER_MS).to_bytes(2, "big")
