"""Calls and packets that the tests of the worker share."""

import msgspec

from shim import rtp_packet
from shim.control import CallSpec

CALL = CallSpec(
    call_sid="CA" + "0c" * 16,
    stream_sid="MZ" + "1d" * 16,
    account_sid="AC" + "2e" * 16,
    channel_id="1700000000.7",
    port=20000,
    url="ws://127.0.0.1:1/media",
    epoch_ns=0,
    ssrc=0xCAFE0001,
    first_sequence=65533,
    first_timestamp=4294967000,
)
"""Its sequence number wraps with the fourth frame, its timestamp with the third."""


def call_spec(**fields: object) -> CallSpec:
    """`CALL` with other fields."""
    return msgspec.structs.replace(CALL, **fields)


def frame(number: int) -> bytes:
    """A frame of 160 bytes that can be told from the 250 others next to it, and from silence."""
    return bytes([number % 251]) * 160


def rtp(sequence: int, timestamp: int | None = None, payload: bytes | None = None) -> bytes:
    """A packet of the caller, with SSRC 7; by default its timestamp and payload follow from
    its sequence number."""
    return rtp_packet.build(
        sequence,
        sequence * 160 if timestamp is None else timestamp,
        7,
        frame(sequence) if payload is None else payload,
    )
