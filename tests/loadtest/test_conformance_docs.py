"""docs/protocol.md says what the code does: its examples and its limits."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from loadtest.conformance_rules import judge
from shim import agent_messages
from shim.agent_messages import MAX_DIGITS, MessageWriter
from shim.call_session import DROPPED_LINK_CODES
from shim.config import ShimConfig
from shim.control import CallSpec
from shim.link_opener import PING_IDLE_S, PING_REPLY_S
from shim.playout import PassedMark

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
TO_BOT, FROM_BOT = (
    [json.loads(block) for block in re.findall(r"```json\n(.*?)```", part, re.DOTALL)]
    for part in TEXT.split("\n## Messages from the bot\n")
)


def written() -> dict[str, Any]:
    """Each message as the worker writes it."""
    call = CallSpec("CA1", "MZ1", "AC1", "1.0", 1, "", 0, 0, 0, 0, {"channelId": "1.0"})
    writer = MessageWriter(call)
    messages = (
        agent_messages.CONNECTED,
        writer.start(resumed=False),
        writer.media(b"\xff", 1),
        writer.dtmf("5"),
        writer.mark(PassedMark("name", 1, 2)),
        writer.stop(),
    )
    return {message["event"]: message for message in map(json.loads, messages)}


def shape(value: object) -> object:
    """Names and types, without the values."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    return [shape(inner) for inner in value] if isinstance(value, list) else type(value).__name__


def test_every_message_to_the_bot_is_shown() -> None:
    """In the order in which a bot gets them."""
    assert [message["event"] for message in TO_BOT] == list(written())


@pytest.mark.parametrize("example", TO_BOT, ids=lambda example: example["event"])
def test_messages_to_the_bot_are_as_written(example: dict[str, Any]) -> None:
    """With the same fields of the same types."""
    assert shape(example) == shape(written()[example["event"]])


def test_messages_from_the_bot_are_understood() -> None:
    """By the worker, and all but our own by the kit's rules of Twilio."""
    assert [example["event"] for example in FROM_BOT] == ["media", "mark", "clear", "dtmf"]
    for example in FROM_BOT:
        agent_messages.decode(json.dumps(example).encode(), example["streamSid"])
        _, faults = judge(json.dumps(example), example["streamSid"])
        assert bool(faults) == (example["event"] == "dtmf")


def test_limits_are_the_defaults() -> None:
    """Those of the settings, and of the code."""
    config = ShimConfig()
    assert f"{config.stream_buffer_seconds // 60} minutes (`STREAM_BUFFER_SECONDS`)" in TEXT
    assert f"{config.stream_max_message_bytes >> 20} MiB (`STREAM_MAX_MESSAGE_BYTES`)" in TEXT
    assert f"`STREAM_HANDSHAKE_TIMEOUT` ({config.stream_handshake_timeout:g} s)" in TEXT
    assert f"`STREAM_CONNECT_BUDGET` ({config.stream_connect_budget:g} s)" in TEXT
    assert f"| {PING_IDLE_S:g} s, and {PING_REPLY_S:g} s more to answer a ping |" in TEXT
    assert f"| digits in one `dtmf` message | {MAX_DIGITS} |" in TEXT


def test_close_codes_are_those_of_the_code() -> None:
    """Each code that opens a stream again stands in a line that says so."""
    rows = [line for line in TEXT.splitlines() if line.endswith("| trouble | opened again |")]
    rows += [line for line in TEXT.splitlines() if "| trouble: " in line]
    named = {int(code) for row in rows for code in re.findall(r"\b1\d{3}\b", row)}
    assert named == DROPPED_LINK_CODES
