"""Realtime events against the `openai` package's models of them."""

import base64
from typing import Any

import pytest
from openai.types.realtime import (
    InputAudioBufferCommittedEvent,
    InputAudioBufferSpeechStartedEvent,
    InputAudioBufferSpeechStoppedEvent,
    RealtimeErrorEvent,
    ResponseAudioDeltaEvent,
    ResponseAudioTranscriptDeltaEvent,
    ResponseCreatedEvent,
    ResponseDoneEvent,
    SessionUpdateEvent,
)
from pydantic import BaseModel

from voice_agent.realtime_messages import (
    ApiError,
    AudioCommitted,
    AudioDelta,
    BadEventError,
    ErrorEvent,
    OutputItem,
    Response,
    ResponseCreated,
    ResponseDone,
    ServerEvent,
    SessionSettings,
    SpeechStarted,
    SpeechStopped,
    TranscriptDelta,
    TruncateItem,
    decode,
    encode,
    session,
)

PART = {"response_id": "r", "item_id": "i", "output_index": 0, "content_index": 0}
CALL = {"type": "function_call", "call_id": "c", "name": "end_call", "arguments": "{}"}


@pytest.mark.parametrize(
    ("model", "fields", "expected"),
    [
        (
            ResponseAudioDeltaEvent,
            {"type": "response.output_audio.delta", "delta": "/38=", **PART},
            AudioDelta("r", "i", b"\xff\x7f"),
        ),
        (
            ResponseAudioTranscriptDeltaEvent,
            {"type": "response.output_audio_transcript.delta", "delta": "Hi", **PART},
            TranscriptDelta("r", "i", "Hi"),
        ),
        (
            InputAudioBufferSpeechStartedEvent,
            {"type": "input_audio_buffer.speech_started", "audio_start_ms": 1, "item_id": "i"},
            SpeechStarted(),
        ),
        (
            InputAudioBufferSpeechStoppedEvent,
            {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 1, "item_id": "i"},
            SpeechStopped("i"),
        ),
        (
            InputAudioBufferCommittedEvent,
            {"type": "input_audio_buffer.committed", "item_id": "i", "previous_item_id": None},
            AudioCommitted("i"),
        ),
        (
            ResponseCreatedEvent,
            {"type": "response.created", "response": {"id": "r", "status": "in_progress"}},
            ResponseCreated(Response("r", "in_progress")),
        ),
        (
            ResponseDoneEvent,
            {
                "type": "response.done",
                "response": {"id": "r", "status": "completed", "output": [CALL]},
            },
            ResponseDone(
                Response(
                    "r", "completed", None, [OutputItem("function_call", "c", "end_call", "{}")]
                )
            ),
        ),
        (
            RealtimeErrorEvent,
            {"type": "error", "error": {"type": "t", "code": "c", "message": "m"}},
            ErrorEvent(ApiError("t", "c", "m")),
        ),
    ],
)
def test_their_events_parse_in_ours(
    model: type[BaseModel], fields: dict[str, Any], expected: ServerEvent
) -> None:
    """Events that are valid for the package, as its models write them."""
    event = model.model_validate({"event_id": "e", **fields}, strict=True)
    assert decode(event.model_dump_json()) == expected


def test_our_session_is_valid_for_theirs() -> None:
    """With both kinds of turn detection, and every field where they know it."""
    for kind in ("server_vad", "semantic_vad"):
        update = session(SessionSettings("m", "marin", "Be kind.", kind, "whisper-1"))
        read = SessionUpdateEvent.model_validate_json(encode(update))
        assert read.session.type == "realtime"
        assert read.session.audio is not None
        assert read.session.audio.input is not None
        assert read.session.audio.input.turn_detection is not None
        assert read.session.audio.input.turn_detection.type == kind
        assert read.session.model_extra == {}


def test_a_content_index_of_zero_is_sent() -> None:
    """Fields with defaults are left out, but the API requires this one."""
    assert '"content_index":0' in encode(TruncateItem("i", 5))


def test_other_events_are_passed_over_and_bad_ones_named() -> None:
    """New kinds must not break a call; what was said is not in the error's text."""
    assert decode('{"type":"rate_limits.updated","rate_limits":[]}') is None
    secret = base64.b64encode(b"secret").decode()
    for bad in ("x", "[]", "{}", f'{{"type":"response.output_audio.delta","delta":"{secret}"}}'):
        with pytest.raises(BadEventError) as caught:
            decode(bad)
        assert secret not in str(caught.value)
