"""Actions in, messages out."""

import pytest

from voice_agent.agent import Clear, EndCall, Mark, Play
from voice_agent.outbox import CHUNK_BYTES, LIMIT_BYTES, Outbox, OutboxFullError
from voice_agent.stream_messages import (
    ClearMessage,
    MarkBody,
    MarkMessage,
    MediaBody,
    MediaMessage,
    OutgoingMessage,
)


def take_all(outbox: Outbox) -> list[OutgoingMessage]:
    """Everything that waits."""
    messages = []
    while message := outbox.take():
        messages.append(message)
    return messages


def media(audio: bytes) -> MediaMessage:
    """A media message of the stream."""
    return MediaMessage("MZ1", MediaBody(audio))


def mark(name: str) -> MarkMessage:
    """A mark of the stream."""
    return MarkMessage("MZ1", MarkBody(name))


def test_audio_goes_out_in_chunks_and_in_order() -> None:
    """200 ms each, the rest last, then the mark."""
    outbox = Outbox("MZ1")
    outbox.put(Play(b"a" * CHUNK_BYTES + b"b" * 10))
    outbox.put(Mark("end"))
    assert take_all(outbox) == [media(b"a" * CHUNK_BYTES), media(b"b" * 10), mark("end")]
    assert outbox.take() is None


def test_no_audio_makes_no_message() -> None:
    """An empty payload would mean nothing."""
    outbox = Outbox("MZ1")
    outbox.put(Play(b""))
    assert outbox.take() is None


def test_clear_drops_what_was_not_sent_but_keeps_marks() -> None:
    """An agent gets each of its marks back, so each has to be sent."""
    outbox = Outbox("MZ1")
    for action in (Play(b"a"), Mark("1"), Play(b"b"), Mark("2"), Clear(), Play(b"c")):
        outbox.put(action)
    assert take_all(outbox) == [mark("1"), mark("2"), ClearMessage("MZ1"), media(b"c")]


def test_the_end_of_the_call_comes_after_all_before_it() -> None:
    """And nothing comes after it."""
    outbox = Outbox("MZ1")
    outbox.put(Play(b"a"))
    outbox.put(EndCall())
    outbox.put(Play(b"b"))
    assert outbox.ended
    assert take_all(outbox) == [media(b"a")]


def test_it_holds_ten_minutes_and_refuses_more() -> None:
    """Until some was taken, or cleared."""
    outbox = Outbox("MZ1")
    outbox.put(Play(b"a" * LIMIT_BYTES))
    with pytest.raises(OutboxFullError, match="600 s"):
        outbox.put(Play(b"b"))
    outbox.take()
    outbox.put(Play(b"b"))
    outbox.put(Clear())
    outbox.put(Play(b"c" * LIMIT_BYTES))
    assert take_all(outbox)[0] == ClearMessage("MZ1")
