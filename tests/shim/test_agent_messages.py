"""Twilio's Media Streams messages: exact JSON out, typed messages in, and every way to be bad."""

import json

import pytest

from shim import agent_messages
from shim.agent_messages import (
    BadMessage,
    Clear,
    Dtmf,
    DtmfDigits,
    Mark,
    MarkName,
    Media,
    MediaPayload,
    MessageWriter,
    decode,
)
from shim.playout import PassedMark
from tests.shim.samples import CALL, call_spec

SID = CALL.stream_sid


def written(*messages: bytes) -> list[object]:
    """The messages as JSON values."""
    return [json.loads(message) for message in messages]


def test_connected() -> None:
    """The first message has no number and no stream."""
    assert json.loads(agent_messages.CONNECTED) == {
        "event": "connected",
        "protocol": "Call",
        "version": "1.0.0",
    }


def test_start() -> None:
    """All strings, except `sampleRate` and `channels`; our parameters are always there."""
    writer = MessageWriter(call_spec(custom_parameters={"tenant": "blue", "empty": ""}))
    assert written(writer.start(resumed=False)) == [
        {
            "event": "start",
            "sequenceNumber": "1",
            "streamSid": "MZ1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d",
            "start": {
                "accountSid": "AC2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e",
                "streamSid": "MZ1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d",
                "callSid": "CA0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c",
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                "customParameters": {
                    "source": "asterisk-shim",
                    "format": "ulaw",
                    "tenant": "blue",
                    "empty": "",
                },
            },
        }
    ]


def test_start_of_a_resumed_stream() -> None:
    """Row 37: it says so, and begins with its numbers anew."""
    writer = MessageWriter(CALL)
    writer.start(resumed=False)
    writer.media(b"\xff", 0)
    start = json.loads(writer.start(resumed=True))
    assert start["start"]["customParameters"]["resumed"] == "1"
    assert start["sequenceNumber"] == "1"
    media = json.loads(writer.media(b"\xff", 20))
    assert (media["sequenceNumber"], media["media"]["chunk"]) == ("2", "1")


def test_media() -> None:
    """Exactly Twilio's bytes: base64 with padding, numbers as strings."""
    writer = MessageWriter(CALL)
    writer.start(resumed=False)
    assert writer.media(b"\xff\x00\x7f\x80", 5) == (
        b'{"event":"media","sequenceNumber":"2","streamSid":"MZ1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d",'
        b'"media":{"track":"inbound","chunk":"1","timestamp":"5","payload":"/wB/gA=="}}'
    )


def test_all_messages_share_one_number() -> None:
    """`sequenceNumber` counts every message after start, `chunk` only media."""
    writer = MessageWriter(CALL)
    messages = [
        writer.start(resumed=False),
        writer.media(b"a", 0),
        writer.mark(PassedMark("my label", 120, 80)),
        writer.dtmf("1"),
        writer.media(b"b", 40),
        writer.stop(),
    ]
    values = [json.loads(message) for message in messages]
    assert [value["sequenceNumber"] for value in values] == ["1", "2", "3", "4", "5", "6"]
    assert [value["media"]["chunk"] for value in values if "media" in value] == ["1", "2"]
    assert values[2] == {
        "event": "mark",
        "sequenceNumber": "3",
        "streamSid": SID,
        "mark": {"name": "my label", "playedMs": "120", "clearedMs": "80"},
    }
    assert values[3] == {
        "event": "dtmf",
        "sequenceNumber": "4",
        "streamSid": SID,
        "dtmf": {"track": "inbound_track", "digit": "1"},
    }
    assert values[5] == {
        "event": "stop",
        "sequenceNumber": "6",
        "streamSid": SID,
        "stop": {"accountSid": CALL.account_sid, "callSid": CALL.call_sid},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"event":"media","media":{"payload":"/wB/gA=="}}',
            Media(MediaPayload(b"\xff\0\x7f\x80")),
        ),
        ('{"event":"media","media":{"payload":""}}', Media(MediaPayload(b""))),
        ('{"event":"mark","mark":{"name":"a"}}', Mark(MarkName("a"))),
        ('{"event":"mark","mark":{}}', Mark(MarkName(""))),
        ('{"event":"mark"}', Mark(MarkName(""))),
        ('{"event":"clear"}', Clear()),
        ('{"event":"dtmf","dtmf":{"digit":"1*#D"}}', Dtmf(DtmfDigits("1*#D"))),
    ],
)
def test_decode(text: str, message: object) -> None:
    """A missing `streamSid` and a mark without its object are accepted."""
    assert decode(text.encode(), SID) == message
    assert decode(memoryview(text.encode()), SID) == message


def test_decode_with_stream_sid_and_more() -> None:
    """Unknown fields are ignored, as public bots send several; key order doesn't matter."""
    text = (
        f'{{"media":{{"track":"x","payload":"AA=="}},"n":[1],"streamSid":"{SID}","event":"media"}}'
    )
    assert decode(text.encode(), SID) == Media(MediaPayload(b"\0"), SID)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "json"),
        (b"hello", "json"),
        (b'{"event":"media"', "json"),
        (b"\xff\xfe", "json"),
        (b'{"event":"mark","mark":{"name":"\xff"}}', "json"),
        (b'{"event":"mark","x":' + b"[" * 100_000, "json"),
        (b'{"event":"mark","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "json"),
        (b"[]", "event"),
        (b"null", "event"),
        (b"17", "event"),
        (b'"media"', "event"),
        (b"{}", "event"),
        (b'{"event":"pause"}', "event"),
        (b'{"event":1}', "event"),
        (b'{"event":null}', "event"),
        (b'{"event":[]}', "event"),
        (b'{"event":{}}', "event"),
        (b'{"event":"start"}', "event"),
        (b'{"event":"media"}', "field"),
        (b'{"event":"media","media":{}}', "field"),
        (b'{"event":"media","media":null}', "field"),
        (b'{"event":"media","media":"AA=="}', "field"),
        (b'{"event":"media","media":{"payload":1}}', "field"),
        (b'{"event":"mark","mark":{"name":7}}', "field"),
        (b'{"event":"mark","streamSid":7}', "field"),
        (b'{"event":"dtmf"}', "field"),
        (b'{"event":"media","media":{"payload":"*"}}', "base64"),
        (b'{"event":"media","media":{"payload":"AAA"}}', "base64"),
        (b'{"event":"media","media":{"payload":"_w=="}}', "base64"),
        (b'{"event":"clear","streamSid":"MZ00"}', "stream_sid"),
        (b'{"event":"media","streamSid":"MZ00","media":{"payload":"AA=="}}', "stream_sid"),
        (b'{"event":"dtmf","dtmf":{"digit":""}}', "digits"),
        (b'{"event":"dtmf","dtmf":{"digit":"1 2"}}', "digits"),
        (b'{"event":"dtmf","dtmf":{"digit":"a"}}', "digits"),
        (b'{"event":"dtmf","dtmf":{"digit":"' + b"1" * 100_000 + b'"}}', "digits"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[:48].decode("latin-1"),
)
def test_bad_messages(data: bytes, kind: str) -> None:
    """Row 34: each way of being bad has its name; nothing else is ever raised."""
    with pytest.raises(BadMessage) as caught:
        decode(data, SID)
    assert caught.value.kind == kind


def test_bad_message_does_not_quote_its_content() -> None:
    """What a bot says may be private: the error names the field, not the value."""
    with pytest.raises(BadMessage) as caught:
        decode(b'{"event":"clear","streamSid":"MZprivate"}', SID)
    assert "private" not in str(caught.value)
