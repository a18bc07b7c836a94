"""Twilio's messages as literal text, good ones and bad ones."""

import json

import pytest

from tests.voice_agent.stream_client import (
    CALL_SID,
    STREAM_SID,
    dtmf_message,
    mark_message,
    media_message,
    start_message,
    stop_message,
)
from voice_agent.stream_messages import (
    BadMessageError,
    ClearMessage,
    ConnectedMessage,
    DtmfBody,
    DtmfMessage,
    MarkBody,
    MarkMessage,
    MediaBody,
    MediaMessage,
    StartMessage,
    StopMessage,
    decode,
    encode,
)


def test_messages_of_the_call_are_decoded() -> None:
    """Each of Twilio's kinds."""
    assert decode('{"event":"connected","protocol":"Call"}') == ConnectedMessage()
    assert decode(json.dumps(media_message(b"\x00\xff"))) == MediaMessage(
        STREAM_SID, MediaBody(b"\x00\xff")
    )
    assert decode(json.dumps(dtmf_message("#"))) == DtmfMessage(STREAM_SID, DtmfBody("#"))
    assert decode(json.dumps(mark_message("a"))) == MarkMessage(STREAM_SID, MarkBody("a"))
    assert decode(json.dumps(stop_message())) == StopMessage(STREAM_SID)


def test_start_says_which_call_it_is() -> None:
    """With the custom parameters as they came."""
    message = decode(json.dumps(start_message(resumed="1")))
    assert isinstance(message, StartMessage)
    assert message.start.call_sid == CALL_SID
    assert message.start.stream_sid == STREAM_SID
    assert message.start.custom_parameters == {"resumed": "1"}


def test_a_reduced_start_is_enough() -> None:
    """Other senders leave out everything but the two ids."""
    message = decode('{"event":"start","start":{"streamSid":"MZ1","callSid":"CA1"}}')
    assert isinstance(message, StartMessage)
    assert message.start.custom_parameters == {}


def test_messages_to_the_call_are_as_twilio_wants_them() -> None:
    """Exactly this text."""
    assert encode(MediaMessage("MZ1", MediaBody(b"\x00\xff\x10"))) == (
        b'{"event":"media","streamSid":"MZ1","media":{"payload":"AP8Q"}}'
    )
    assert encode(MarkMessage("MZ1", MarkBody("x"))) == (
        b'{"event":"mark","streamSid":"MZ1","mark":{"name":"x"}}'
    )
    assert encode(ClearMessage("MZ1")) == b'{"event":"clear","streamSid":"MZ1"}'


def start_with(**changes: object) -> str:
    """A `start` whose inner part was changed."""
    message = start_message()
    message["start"] |= changes
    return json.dumps(message)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b'{"event":"connected"}', "binary"),
        ("", "json"),
        ("hello", "json"),
        ('{"event":"media"', "json"),
        ('{"event":"connected"} {}', "json"),
        ('{"event":"connected","x":' + "[" * 60_000, "json"),
        ('{"event":"media","streamSid":"\\ud800"}', "json"),
        ('{"event":"surprise","x":', "json"),
        ('{"event":"surprise","x":' + "[" * 60_000, "json"),
        ("[]", "event"),
        ("7", "event"),
        ("{}", "event"),
        ('{"event":"clear","streamSid":"MZ1"}', "event"),
        ('{"event":5}', "event"),
        ('{"event":["media"]}', "event"),
        ('{"event":"media"}', "field"),
        ('{"event":"media","streamSid":"MZ1","media":{}}', "field"),
        ('{"event":"media","streamSid":"MZ1","media":{"payload":"AA?="}}', "field"),
        ('{"event":"media","streamSid":"MZ1","media":{"payload":"AAA"}}', "field"),
        ('{"event":"media","streamSid":"MZ1","media":{"payload":null}}', "field"),
        ('{"event":"dtmf","streamSid":"MZ1","dtmf":{"digit":"12"}}', "field"),
        ('{"event":"dtmf","streamSid":"MZ1","dtmf":{"digit":"x"}}', "field"),
        ('{"event":"mark","streamSid":"MZ1"}', "field"),
        (start_with(callSid=""), "field"),
        (start_with(callSid="C" * 65), "field"),
        (start_with(customParameters=None), "field"),
        (start_with(customParameters={"a": 1}), "field"),
        (start_with(mediaFormat={"encoding": "audio/l16", "sampleRate": 8000}), "field"),
        (start_with(mediaFormat={"encoding": "audio/x-mulaw", "sampleRate": 16000}), "field"),
    ],
)
def test_bad_messages_say_what_kind_of_bad_they_are(data: str | bytes, kind: str) -> None:
    """One exception type, and few kinds, so that warnings can be counted."""
    with pytest.raises(BadMessageError) as caught:
        decode(data)
    assert caught.value.kind == kind


def test_errors_hold_nothing_that_a_caller_said_or_typed() -> None:
    """They go into logs."""
    with pytest.raises(BadMessageError) as caught:
        decode('{"event":"dtmf","streamSid":"MZ1","dtmf":{"digit":"4711"}}')
    assert "4711" not in str(caught.value)
