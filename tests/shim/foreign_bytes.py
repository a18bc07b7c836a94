"""All that reads bytes of others, each with inputs and a check: for property tests and fuzzing.

A check takes one generated input and raises if the code does anything but what it promises.
"""

import json
import math
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
from hypothesis import strategies as st

from shim import agent_messages, control, environment
from shim.agent_messages import BadMessage, MessageWriter
from shim.call_session import CallSession, StreamSettings
from shim.config import ShimConfig
from shim.control import ControlError
from shim.environment import ConfigError
from shim.inbound_stream import InboundStream
from shim.link_opener import LinkOpener
from shim.playout import PassedMark
from tests.shim.foreign_media import (
    arrivals,
    check_inbound,
    check_parse,
    check_playout,
    check_round_trip,
    datagrams,
    packets,
    playout_steps,
)
from tests.shim.samples import CALL, call_spec

# The voice server's messages

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["media", "mark", "clear", "dtmf", "AA==", CALL.stream_sid, "1#"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["event", "media", "payload", "mark", "name", "dtmf", "digit"])
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
message_objects = st.fixed_dictionaries(
    {"event": st.sampled_from(["media", "mark", "clear", "dtmf", "stop"]) | json_values},
    optional={
        "streamSid": st.sampled_from([CALL.stream_sid, "", "MZ0"]) | json_values,
        "media": st.fixed_dictionaries({"payload": st.text(max_size=12) | json_values})
        | json_values,
        "mark": st.fixed_dictionaries({"name": json_values}) | json_values,
        "dtmf": st.fixed_dictionaries({"digit": st.text("0123456789*#ABCDabcd", max_size=120)})
        | json_values,
        "x": json_values,
    },
)
_json_texts = message_objects.map(lambda value: json.dumps(value).encode())
_cut_texts = st.builds(lambda text, at: text[: at % (len(text) + 1)], _json_texts, st.integers(0))
_deep = st.integers(1, 30_000).map(lambda depth: b'{"event":"mark","x":' + b"[" * depth)
agent_texts = st.binary(max_size=60) | _json_texts | _cut_texts | _deep
EVENTS: Final = (
    agent_messages.Media,
    agent_messages.Mark,
    agent_messages.Clear,
    agent_messages.Dtmf,
)
KINDS: Final = {"json", "event", "field", "base64", "stream_sid", "digits"}


def check_agent_message(data: bytes) -> None:
    """A message, or BadMessage of a known kind; what is accepted can be acted upon."""
    bad = ""
    try:
        message = agent_messages.decode(data, CALL.stream_sid)
    except BadMessage as error:
        bad = error.kind
    if bad:
        assert bad in KINDS
        return
    assert isinstance(message, EVENTS)
    assert message.streamSid in ("", CALL.stream_sid)
    if isinstance(message, agent_messages.Mark):
        answer = MessageWriter(CALL).mark(PassedMark(message.mark.name, 0, 0))
        assert json.loads(answer)["mark"]["name"] == message.mark.name
    if isinstance(message, agent_messages.Dtmf):
        control.encode(control.SendDigits(CALL.call_sid, message.dtmf.digit))


written_streams = st.tuples(
    st.dictionaries(st.text(max_size=10), st.text(max_size=20), max_size=4),
    st.lists(
        st.binary(max_size=200)
        | st.builds(PassedMark, st.text(max_size=20), st.integers(0, 10**6), st.integers(0, 10**6))
        | st.sampled_from("0123456789*#ABCD"),
        max_size=20,
    ),
)


def check_written_stream(stream: tuple[dict[str, str], list[bytes | PassedMark | str]]) -> None:
    """Whatever is sent is JSON with Twilio's types, numbered without a gap."""
    parameters, items = stream
    writer = MessageWriter(call_spec(custom_parameters=parameters))
    messages = [json.loads(writer.start(resumed=False))]
    assert parameters.items() <= messages[0]["start"]["customParameters"].items()
    for number, item in enumerate(items):
        match item:
            case bytes():
                messages.append(json.loads(writer.media(item, number * 20)))
            case PassedMark():
                messages.append(json.loads(writer.mark(item)))
            case str():
                messages.append(json.loads(writer.dtmf(item)))
    messages.append(json.loads(writer.stop()))
    assert [m["sequenceNumber"] for m in messages] == [f"{n + 1}" for n in range(len(messages))]
    for message in messages:
        assert message["streamSid"] == CALL.stream_sid
        leaves = deque(v for k, v in message.items() if k != "start")
        while leaves:
            leaf = leaves.popleft()
            assert isinstance(leaf, str | dict)
            leaves.extend(leaf.values() if isinstance(leaf, dict) else ())


call_inputs = st.lists(agent_texts | datagrams.map(bytearray) | st.none(), max_size=30)
"""What a call gets: messages of its voice server, datagrams (as bytearrays), binary messages."""


def check_call(inputs: list[bytes | bytearray | None]) -> None:
    """Bad messages are counted, reports can be sent, of the caller at most 200 ms are held."""
    reports: list[control.FromWorker] = []
    words = memoryview(bytearray(24)).cast("Q")
    streams = StreamSettings(connect_budget_s=1, buffer_limit_ms=1000, hold_frames=())
    opener = LinkOpener(ShimConfig().link_settings(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtp:
        session = CallSession(control.StartCall(CALL), rtp, words, streams, opener, reports.append)
        heard, bad = InboundStream(0), 0
        frames = 0
        for number, item in enumerate(inputs):
            now_ns = number * 20_000_000
            match item:
                case bytes():
                    session.on_text(memoryview(item))
                    bad += not _is_good(item)
                case bytearray():
                    session.receive(bytes(item), now_ns)
                    frames += bool(heard.accept(bytes(item), now_ns))
                case None:
                    session.on_binary()
                    bad += 1
        stats = session.stats()
    assert stats.bad_messages == bad
    assert stats.frames_in == heard.counts.received
    assert stats.audio_dropped == max(0, frames - 10)
    for report in reports:
        assert control.decode_from_worker(control.encode(report)) == report


def _is_good(data: bytes) -> bool:
    try:
        agent_messages.decode(data, CALL.stream_sid)
    except BadMessage:
        return False
    return True


# Control messages

_msgpack_values = json_values.map(
    lambda value: msgspec.msgpack.encode(_within_64_bits(value)),
)
_struct_fields = st.dictionaries(
    st.sampled_from(["type", "call_sid", "call", "digit", "reason", "resumed", "port", "worker"]),
    st.sampled_from(["StartCall", "EndCall", "Hello", "CallClosed", "WorkerStats"]) | json_values,
    max_size=5,
).map(lambda value: msgspec.msgpack.encode(_within_64_bits(value)))
_deep_msgpack = st.integers(1, 30_000).map(lambda depth: b"\x81\xa1x" + b"\x91" * depth)
control_data = st.binary(max_size=80) | _msgpack_values | _struct_fields | _deep_msgpack


def _within_64_bits(value: Any) -> Any:
    """The value with integers that MessagePack can hold."""
    if isinstance(value, dict):
        return {key: _within_64_bits(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_within_64_bits(inner) for inner in value]
    return value % (1 << 63) if type(value) is int else value


def check_control(data: bytes) -> None:
    """A message that is encoded as it was understood, or ControlError."""
    for decode in (control.decode_to_worker, control.decode_from_worker):
        try:
            message = decode(data)
        except ControlError:
            continue
        assert decode(control.encode(message)) == message


# Settings

SETTINGS: Final = [field.name.upper() for field in msgspec.structs.fields(ShimConfig)]
environments = st.dictionaries(
    st.sampled_from(SETTINGS),
    st.text(max_size=12)
    | st.integers().map(str)
    | st.floats().map(str)
    | st.sampled_from(["nan", "inf", "-0", "1e400", "true", "0x10", "1_000", "text", "DEBUG"]),
    max_size=6,
)


def check_environment(environ: dict[str, str]) -> None:
    """Settings within their bounds, or one ConfigError that names a variable."""
    bad = ""
    try:
        config = environment.read(ShimConfig, environ)
    except ConfigError as error:
        bad = str(error)
    if bad:
        assert any(bad.startswith(name) for name in environ)
        assert "\n" not in bad
        return
    for seconds in (config.orphan_grace, config.stream_connect_budget):
        assert math.isfinite(seconds)
        assert 0 < seconds <= 3600
    assert 1 <= config.stream_buffer_seconds <= 3600
    environment.redacted(config)


class Target(NamedTuple):
    """What to feed, and how to judge. Inputs that are bytes can be mutated besides."""

    name: str
    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], None]


TARGETS: Final = (
    Target("RTP datagrams", datagrams, check_parse),
    Target("RTP packets there and back", packets, check_round_trip),
    Target("RTP streams", arrivals, check_inbound),
    Target("voice-server messages", agent_texts, check_agent_message),
    Target("messages and datagrams of a call", call_inputs, check_call),
    Target("messages to voice servers", written_streams, check_written_stream),
    Target("playout of voice-server audio", playout_steps, check_playout),
    Target("control messages", control_data, check_control),
    Target("environment", environments, check_environment),
)
