"""What a bot may send, on literal messages."""

import json
from base64 import b64encode

import pytest

from loadtest import audio
from loadtest.conformance_rules import MAX_MESSAGE_BYTES, BotMessage, Fault, judge, looks_linear

SID = "MZ" + "1" * 32


def message(event: str, **content: object) -> str:
    """A message of the bot for the stream SID."""
    return json.dumps({"event": event, "streamSid": SID, **content})


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (message("clear"), BotMessage("clear")),
        (message("mark", mark={"name": ""}), BotMessage("mark")),
        (
            message("mark", mark={"name": "ü", "more": 1}, most=2),
            BotMessage("mark", mark="ü", extras=("most", "mark.more")),
        ),
        (message("clear", clear={}), BotMessage("clear", extras=("clear",))),
        (message("media", media={"payload": "AP8="}), BotMessage("media", audio=b"\x00\xff")),
        (message("media", media={"payload": ""}), BotMessage("media")),
    ],
)
def test_good_messages_are_read(text: str, read: BotMessage) -> None:
    """With all that is in them, and no fault."""
    assert judge(text, SID) == (read, [])


def test_a_fault_says_what_was_expected_and_what_came() -> None:
    """Also when it is long."""
    _, [fault] = judge(message("media", media={"payload": "?" * 1000}), SID)
    assert fault.rule == "payload"
    assert fault.expected == "base64"
    assert fault.came.startswith("'" + "?" * 59 + "... (1002 characters)")


def test_one_message_can_break_several_rules() -> None:
    """Each is found, and what can be understood is."""
    wav = b64encode(b"RIFF....WAVEfmt ").decode()
    read, faults = judge(json.dumps({"event": "media", "media": {"payload": wav}}), SID)
    assert read == BotMessage("media", audio=b"RIFF....WAVEfmt ")
    assert [fault.rule for fault in faults] == ["stream_sid", "file_header"]
    assert faults[0] == Fault("stream_sid", f"streamSid {SID}", "None")


@pytest.mark.parametrize(
    "data", [b"", "", "nul", "null", "1", '"media"', "{}", '{"event": {}}', "[" * 100_000]
)
def test_what_is_no_message_is_one_fault(data: str | bytes) -> None:
    """Whatever it is, there is nothing to do with it."""
    read, faults = judge(data, SID)
    assert read is None
    assert [fault.rule for fault in faults if fault.rule != "stream_sid"] == ["message"]


def test_the_size_counts_in_bytes() -> None:
    """A message of exactly the limit is good."""
    empty = len(message("mark", mark={"name": ""}))
    largest = message("mark", mark={"name": "x" * (MAX_MESSAGE_BYTES - empty)})
    assert judge(largest, SID)[1] == []
    assert [fault.rule for fault in judge(largest + " ", SID)[1]] == ["size"]


def test_linear_audio_is_told_from_mulaw() -> None:
    """Quiet, loud, and clipped sounds alike."""
    for level in (0.01, 0.5, 1.0):
        mulaw = audio.tone(440, 1.0, level)
        assert not looks_linear(mulaw)
        assert not looks_linear(audio.encode(audio.decode(mulaw).clip(-32, 32) * 1000))
    assert not looks_linear(audio.silence(1.0))
    assert not looks_linear(b"")
    for sound in (audio.silence(1.0), audio.tone(440, 1.0, 0.005), audio.speech_burst(1.0)):
        assert looks_linear(audio.decode(sound).tobytes())
