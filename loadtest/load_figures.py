"""What a caller of a load test went through: the figures of a call, and why it failed. Pure."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from loadtest.audio import FRAME_BYTES, RATE_HZ, SILENT_FRAME
from loadtest.load_plan import CallOrder
from loadtest.load_script import Script, Turn, loud
from loadtest.phone_plan import CallRecord
from loadtest.recording import PCMU, ReceivedPacket, continuity

PTIME_NS: Final = 20_000_000
DEAF_S: Final = 3.0
"""A caller who has heard nothing for so long after the answer takes the line for dead."""
ANSWER_WITHIN_S: Final = 1.0
"""The agent answers at once, so this is a generous time for the way there and back."""
FALL_SILENT_MS: Final = 500.0
"""An agent that is spoken over for longer than this does not listen."""
SILENT_MS: Final = 1000.0
"""No packet for so long is a break in the call, whatever came before and after."""
STILL_SPEAKING_NS: Final = 100_000_000
"""Sound within this time before is sound now: syllables have gaps."""
SLOWEST_PER_S: Final = 49.0
"""A phone that sends fewer of the 50 frames per second measures itself, not the system."""
JUDGED_S: Final = 2.0
"""Rates of calls shorter than this say nothing."""


class CallReport(Struct, frozen=True, kw_only=True):
    """The figures of an order's call. None: there was nothing to measure, as in a short call.

    `failure` says why the call failed. `invited_at_s` is a time of `time.monotonic()`.
    `set_up_ms` is the time from the INVITE to the answer, `first_audio_ms` from there to the first
    sound. `round_trips_ms` are the audio's ways to the agent and back, `barge_ins_ms` the times
    from the caller's first word to the agent's silence. `lost` of `lost + received` packets never
    came. `jitter_us` is the mean of |D| of RFC 3550 section 6.4.1, whose running mean is the jitter
    of RTCP. `longest_gap_ms` between packets counts the time up to the end of the call, too.
    `sent_per_s` and `send_late_max_ms` tell how well the phone kept its own 50 packets per second.
    """

    number: int
    invited_at_s: float
    failure: str | None = None
    seconds: float = 0.0
    set_up_ms: float | None = None
    first_audio_ms: float | None = None
    round_trips_ms: list[float] = []
    barge_ins_ms: list[float] = []
    received: int = 0
    lost: int = 0
    jitter_us: float | None = None
    longest_gap_ms: float | None = None
    sent_per_s: float | None = None
    send_late_max_ms: float | None = None

    @property
    def loss_permille(self) -> float | None:
        """Packets lost per thousand that were due."""
        due = self.received + self.lost
        return 1000 * self.lost / due if due else None


class _Heard:
    """The packets of a call: when each came, and whether there is sound in it."""

    def __init__(self, packets: list[ReceivedPacket]) -> None:
        voice = [packet for packet in packets if packet.payload_type == PCMU]
        self.at_ns = np.array([packet.at_ns for packet in voice], dtype=np.int64)
        payloads = (packet.payload[:FRAME_BYTES] for packet in voice)
        padded = (payload + SILENT_FRAME[len(payload) :] for payload in payloads)
        self.sound_at_ns: NDArray[np.int64] = self.at_ns[loud(b"".join(padded))]

    def first_in(self, from_ns: int, until_ns: int) -> int | None:
        """When the first sound came within a time."""
        found = self._within(from_ns, until_ns)
        return int(found[0]) if len(found) else None

    def last_in(self, from_ns: int, until_ns: int) -> int | None:
        """When the last sound came within a time."""
        found = self._within(from_ns, until_ns)
        return int(found[-1]) if len(found) else None

    def _within(self, from_ns: int, until_ns: int) -> NDArray[np.int64]:
        first, last = np.searchsorted(self.sound_at_ns, [from_ns, until_ns])
        return self.sound_at_ns[first:last]


def judge(order: CallOrder, said: Script, record: CallRecord) -> CallReport:
    """Measure a call, and say whether it was what the caller wanted."""
    if record.answered_at is None:
        return CallReport(
            number=order.number,
            invited_at_s=record.invited_at,
            failure=_unanswered(order, record),
        )
    answered_ns, ended_ns = round(record.answered_at * 1e9), round(record.ended_at * 1e9)
    heard = _Heard(record.packets)
    first_ns = heard.first_in(answered_ns, ended_ns)
    exchanges = list(_exchanges(said, record, heard, ended_ns))
    trips_ms = [trip for trip, _ in exchanges if trip is not None]
    barge_ins_ms = [silent for _, silent in exchanges if silent is not None]
    seconds = record.ended_at - record.answered_at
    report = CallReport(
        number=order.number,
        invited_at_s=record.invited_at,
        seconds=seconds,
        set_up_ms=(record.answered_at - record.invited_at) * 1000,
        first_audio_ms=None if first_ns is None else (first_ns - answered_ns) / 1e6,
        round_trips_ms=[trip for trip in trips_ms if trip < np.inf],
        barge_ins_ms=barge_ins_ms,
        received=record.received_packets,
        lost=continuity(record.packets).lost if record.packets else 0,
        jitter_us=jitter_us(record.packets),
        longest_gap_ms=_longest_gap_ms(record, ended_ns),
        sent_per_s=_sent_per_s(record, ended_ns),
        send_late_max_ms=record.send_late_max_ms if record.sent_packets else None,
    )
    failure = _failure(record, report, unanswered=np.inf in trips_ms)
    return replace(report, failure=failure)


def jitter_us(packets: list[ReceivedPacket]) -> float | None:
    """The mean of |D| of RFC 3550 section 6.4.1 over packets in order of arrival."""
    if len(packets) < 2:
        return None
    arrived_us = np.array([packet.at_ns for packet in packets], dtype=np.int64) / 1000
    stamps = np.array([packet.timestamp for packet in packets], dtype=np.int64)
    wrapped = (np.diff(stamps) + (1 << 31)) % (1 << 32) - (1 << 31)
    transit_us = np.abs(np.diff(arrived_us) - wrapped * (1e6 / RATE_HZ))
    ssrcs = np.array([packet.ssrc for packet in packets], dtype=np.int64)
    # Where the sender began to count anew, the difference says nothing.
    comparable = (np.diff(ssrcs) == 0) & (np.abs(wrapped) < RATE_HZ)
    return float(transit_us[comparable].mean()) if comparable.any() else None


def _exchanges(
    said: Script, record: CallRecord, heard: _Heard, ended_ns: int
) -> Iterator[tuple[float | None, float | None]]:
    """Of each turn: the audio's round trip, and how long the agent was spoken over (ms).

    The round trip is infinite if there was no answer in time.
    """
    began_ns = record.first_sent_ns
    if began_ns is None:
        return
    for turn, following in zip(said.turns, (*said.turns[1:], None), strict=True):
        first_ns, ends_ns = (began_ns + frame * PTIME_NS for frame in (turn.first, turn.ends))
        if ends_ns > ended_ns:
            return
        next_ns = began_ns + following.first * PTIME_NS if following else ended_ns
        until_ns = min(next_ns, ended_ns)
        yield _round_trip_ms(turn, ends_ns, until_ns, heard), _barge_in_ms(first_ns, ends_ns, heard)


def _round_trip_ms(turn: Turn, ends_ns: int, until_ns: int, heard: _Heard) -> float | None:
    due_ns = ends_ns + turn.lead * PTIME_NS
    found_ns = heard.first_in(due_ns, until_ns)
    if found_ns is not None:
        return (found_ns - due_ns) / 1e6
    return np.inf if until_ns - due_ns > ANSWER_WITHIN_S * 1e9 else None


def _barge_in_ms(first_ns: int, ends_ns: int, heard: _Heard) -> float | None:
    if heard.first_in(first_ns - STILL_SPEAKING_NS, first_ns) is None:
        return None  # the agent was silent anyway
    last_ns = heard.last_in(first_ns, ends_ns)
    return 0.0 if last_ns is None else (last_ns + PTIME_NS - first_ns) / 1e6


def _longest_gap_ms(record: CallRecord, ended_ns: int) -> float | None:
    if not record.packets:
        return None
    return max(record.longest_gap_ms, (ended_ns - record.packets[-1].at_ns) / 1e6)


def _sent_per_s(record: CallRecord, ended_ns: int) -> float | None:
    if record.first_sent_ns is None or ended_ns - record.first_sent_ns < JUDGED_S * 1e9:
        return None
    return record.sent_packets / ((ended_ns - record.first_sent_ns) / 1e9)


def _unanswered(order: CallOrder, record: CallRecord) -> str | None:
    match record.outcome:
        case "canceled" if order.cancel:
            return None
        case "refused":
            return f"refused with SIP status {record.status}"
    return f"no answer within {order.patience_s:g} s"


def _failure(record: CallRecord, report: CallReport, unanswered: bool) -> str | None:
    """Why an answered call failed: what the caller would complain about first."""
    slow = report.sent_per_s is not None and report.sent_per_s < SLOWEST_PER_S
    reasons = {
        f"the load generator is too slow: it sent fewer than {SLOWEST_PER_S:g} packets/s": slow,
        "dropped: the far end hung up": record.ended_by == "callee",
        "no audio": not report.received and report.seconds > DEAF_S,
        f"nothing was heard for {DEAF_S:g} s after the answer": _is_deaf(report),
        f"audio broke off for over {SILENT_MS:g} ms": (report.longest_gap_ms or 0) > SILENT_MS,
        f"no reply within {ANSWER_WITHIN_S:g} s to what was said": unanswered,
        f"the agent talked on for over {FALL_SILENT_MS:g} ms while the caller spoke": any(
            silent_ms > FALL_SILENT_MS for silent_ms in report.barge_ins_ms
        ),
    }
    return next((reason for reason, is_true in reasons.items() if is_true), None)


def _is_deaf(report: CallReport) -> bool:
    first_ms = report.first_audio_ms
    waited_ms = report.seconds * 1000 if first_ms is None else first_ms
    return waited_ms > DEAF_S * 1000
