"""The RTP stream to the caller: one packet per tick, numbered without a break.

How many packets were sent stands in shared memory. When this process dies, another one
continues the stream from there with the same SSRC.
"""

from collections.abc import Callable
from typing import Final

from shim.control import CallSpec
from shim.pcmu import FRAME_BYTES, PAYLOAD_TYPE, PTIME_NS
from shim.rtp_packet import FRAME, PLAIN_FLAGS

_PCMU: Final = PLAIN_FLAGS << 8 | PAYLOAD_TYPE


class OutboundStream:
    """Numbers and sends frames.

    Args:
        call: fixes SSRC, first sequence number and first timestamp.
        send: sends one datagram to Asterisk.
        sent: the call's words in shared memory; word 0 counts the packets sent.
        now_ns: the time of the first frame; it fixes the timestamp (RFC 3550 section 5.1:
            timestamps follow the clock, also over frames that nobody sent).

    `send_errors` counts frames that the kernel did not take.
    """

    __slots__ = (
        "_count",
        "_first_sequence",
        "_first_timestamp",
        "_send",
        "_sent",
        "_ssrc",
        "_timestamp",
        "send_errors",
    )

    def __init__(
        self, call: CallSpec, send: Callable[[bytes], int], sent: memoryview, now_ns: int
    ) -> None:
        self._send = send
        self._sent = sent
        self._count = sent[0]
        self._ssrc = call.ssrc
        self._first_sequence = call.first_sequence
        self._first_timestamp = call.first_timestamp
        ticks = max(0, now_ns - call.epoch_ns) // PTIME_NS
        self._timestamp = call.first_timestamp + ticks * FRAME_BYTES
        self.send_errors = 0

    @property
    def position(self) -> int:
        """Samples from the call's epoch to the next frame."""
        return self._timestamp - self._first_timestamp

    def send(self, frame: bytes) -> None:
        """Send one frame of 160 bytes."""
        count = self._count
        timestamp = self._timestamp
        packet = FRAME.pack(
            _PCMU,
            self._first_sequence + count & 0xFFFF,
            timestamp & 0xFFFFFFFF,
            self._ssrc,
            frame,
        )
        self._timestamp = timestamp + FRAME_BYTES
        self._count = self._sent[0] = count + 1
        try:
            self._send(packet)
        except OSError:
            # A full buffer, or an ICMP error that an earlier packet brought back: this frame is
            # lost, as on any network. A resend would come too late.
            self.send_errors += 1

    def skip(self, frames: int) -> None:
        """Let the clock go on over frames that are not sent."""
        self._timestamp += frames * FRAME_BYTES
