"""What the phone shall do with a call that comes in. Pure."""

from __future__ import annotations

from msgspec import Struct


class CalleePlan(Struct, frozen=True, kw_only=True):
    """Ring for `ring_seconds`, then answer with `status`: 200 takes the call, 300 on refuse it.

    None: ring until the caller gives up. `audio` (µ-law) is played from the answer on, again and
    again with `audio_loop`. The phone hangs up `seconds` after the answer (None: never by itself).
    """

    ring_seconds: float = 0.0
    status: int | None = 200
    audio: bytes = b""
    audio_loop: bool = False
    seconds: float | None = None
