"""What a call of the phone shall do, and what became of it. Pure."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from loadtest.recording import ReceivedPacket

Outcome = Literal["answered", "refused", "timeout", "canceled"]
Party = Literal["caller", "callee"]


class BadNetwork(Struct, frozen=True, kw_only=True):
    """What becomes of packets between a phone and Asterisk.

    Of all packets `loss_share` (0 to 1) are lost, and each of the others is held up by 0 to
    `jitter_ms`, so that some overtake others. From `silent_after` seconds on none arrives.
    """

    loss_share: float = 0.0
    jitter_ms: float = 0.0
    silent_after: float | None = None


class CallPlan(Struct, frozen=True, kw_only=True):
    """What a call shall do.

    `to` is a SIP URI; the INVITE goes to its host and port. `audio` (µ-law) is played from the
    answer on, again and again with `audio_loop`; silence follows it. The caller hangs up `seconds`
    after the answer (None: never by itself), and cancels a call that has rung for `ring_seconds`,
    or `cancel_after` seconds after the INVITE; but never before the far end has shown any sign,
    which RFC 3261 section 9.1 asks for. `digits` are (seconds after the answer, digit).
    `network` is what the phone's audio goes through; None: all of it arrives at once.
    """

    to: str
    from_user: str = "phone"
    audio: bytes = b""
    audio_loop: bool = False
    seconds: float | None = None
    ring_seconds: float = 60.0
    cancel_after: float | None = None
    digits: tuple[tuple[float, str], ...] = ()
    keep_packets: bool = True
    network: BadNetwork | None = None


class CallRecord(Struct, frozen=True, kw_only=True):
    """What became of a call. Times are seconds of `time.monotonic()`, `_ns` its nanoseconds.

    `status` is the INVITE's final SIP status, 408 where there was none. `outcome` "timeout": nobody
    answered within `ring_seconds`, or at all. `ended_by` is None unless the call was answered.
    `packets`, in order of arrival, and `sent_audio` (µ-law, from `first_sent_ns` on) are empty if
    the plan keeps no packets. `stray` counts datagrams that were no RTP or came from elsewhere than
    the far end's media address.
    """

    outcome: Outcome
    status: int
    call_id: str
    invited_at: float
    answered_at: float | None
    ended_at: float
    ended_by: Party | None
    packets: list[ReceivedPacket]
    received_packets: int
    longest_gap_ms: float
    stray: int
    sent_packets: int
    first_sent_ns: int | None
    sent_audio: bytes
    send_late_max_ms: float
