"""Events of the OpenAI Realtime API (WebSocket, generally available version).

Pure. Shapes as in OpenAI's reference, "Realtime client events" and "Realtime server events"; only
what is used here is named. Audio is `audio/pcmu`: base64 of the same µ-law bytes that a phone
call has, which msgspec turns into bytes and back.
"""

from typing import Any, Literal, TypeAlias, get_args

import msgspec


class _Event(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    """What all events have in common: the tag of each is its `type`."""


class SessionUpdate(_Event, frozen=True, tag="session.update"):
    """Sets the session up. `session` is made by `session`."""

    session: dict[str, Any]


class AppendAudio(_Event, frozen=True, tag="input_audio_buffer.append", gc=False):
    """The caller's audio."""

    audio: bytes


class CreateItem(_Event, frozen=True, tag="conversation.item.create"):
    """Adds an item to the end of the conversation. Items are made by the functions below."""

    item: dict[str, Any]


class DeleteItem(_Event, frozen=True, tag="conversation.item.delete"):
    """Makes the model forget an item."""

    item_id: str


class TruncateItem(_Event, frozen=True, tag="conversation.item.truncate"):
    """Makes the model forget what it said in an item after `audio_end_ms`."""

    item_id: str
    audio_end_ms: int
    content_index: int = msgspec.field(default_factory=int)  # a factory: 0 has to be sent


class CreateResponse(_Event, frozen=True, tag="response.create"):
    """Asks for an answer. An error that names `event_id` says that there will be none."""

    event_id: str
    response: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class CancelResponse(_Event, frozen=True, tag="response.cancel"):
    """Stops the answer that is being made."""


ClientEvent: TypeAlias = (
    SessionUpdate
    | AppendAudio
    | CreateItem
    | DeleteItem
    | TruncateItem
    | CreateResponse
    | CancelResponse
)


class ApiError(msgspec.Struct, frozen=True):
    """What the API says about a failure."""

    type: str | None = None
    code: str | None = None
    message: str | None = None
    event_id: str | None = None


class ErrorEvent(_Event, frozen=True, tag="error"):
    """Something went wrong; mostly the session goes on."""

    error: ApiError


class SpeechStarted(_Event, frozen=True, tag="input_audio_buffer.speech_started"):
    """The API hears the caller begin to speak."""


class SpeechStopped(_Event, frozen=True, tag="input_audio_buffer.speech_stopped"):
    """The API takes the caller's turn for over."""

    item_id: str


class AudioCommitted(_Event, frozen=True, tag="input_audio_buffer.committed"):
    """The caller's turn is an item of the conversation now."""

    item_id: str


class CallerTranscript(
    _Event, frozen=True, tag="conversation.item.input_audio_transcription.completed"
):
    """What the caller said in an item."""

    item_id: str
    transcript: str


class AudioDelta(_Event, frozen=True, tag="response.output_audio.delta", gc=False):
    """The next part of the answer's audio."""

    response_id: str
    item_id: str
    delta: bytes
    content_index: int = 0


class TranscriptDelta(_Event, frozen=True, tag="response.output_audio_transcript.delta"):
    """The next part of the answer's text."""

    response_id: str
    item_id: str
    delta: str


class OutputItem(msgspec.Struct, frozen=True):
    """An item of a finished response; the names after `type` are a function call's."""

    type: str = ""
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None


class StatusDetails(msgspec.Struct, frozen=True):
    """Why a response did not complete."""

    type: str | None = None
    reason: str | None = None
    error: ApiError | None = None


class Response(msgspec.Struct, frozen=True):
    """An answer. `status`: completed, cancelled, failed, incomplete, or in_progress."""

    id: str | None = None
    status: str | None = None
    status_details: StatusDetails | None = None
    output: list[OutputItem] | None = None


class ResponseCreated(_Event, frozen=True, tag="response.created"):
    """An answer begins."""

    response: Response


class ResponseDone(_Event, frozen=True, tag="response.done"):
    """An answer is over, in whichever way."""

    response: Response


ServerEvent: TypeAlias = (
    AudioDelta
    | TranscriptDelta
    | SpeechStarted
    | SpeechStopped
    | AudioCommitted
    | CallerTranscript
    | ResponseCreated
    | ResponseDone
    | ErrorEvent
)


class BadEventError(ValueError):
    """The API sent what can't be read. The text never holds what was said."""


class _Head(msgspec.Struct, frozen=True):
    type: str


_kinds = {str(kind.__struct_config__.tag) for kind in get_args(ServerEvent)}
_head: msgspec.json.Decoder[_Head] = msgspec.json.Decoder(_Head)
_decoder: msgspec.json.Decoder[ServerEvent] = msgspec.json.Decoder(ServerEvent)
_encoder = msgspec.json.Encoder()


def decode(data: str | bytes) -> ServerEvent | None:
    """Decode a message of the API; None for the many kinds that are not needed here.

    Raises:
        BadEventError: no JSON, no `type`, or a known event without a field that it must have.
    """
    try:
        kind = _head.decode(data).type
        return _decoder.decode(data) if kind in _kinds else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadEventError(str(error)) from error


def encode(event: ClientEvent) -> str:
    """The JSON text of an event to the API."""
    return _encoder.encode(event).decode()


def said(role: Literal["user", "assistant", "system"], text: str) -> CreateItem:
    """A message that is in the conversation as text."""
    kind = "output_text" if role == "assistant" else "input_text"
    content = [{"type": kind, "text": text}]
    return CreateItem({"type": "message", "role": role, "content": content})


def tool_called(call_id: str, name: str, arguments: str) -> CreateItem:
    """A call of a tool that the model made before."""
    item = {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}
    return CreateItem(item)


def tool_answered(call_id: str, output: str) -> CreateItem:
    """What a tool gave the model."""
    return CreateItem({"type": "function_call_output", "call_id": call_id, "output": output})


class SessionSettings(msgspec.Struct, frozen=True):
    """What a session is to be. `tools` are entries of the API's `tools` field."""

    model: str
    voice: str
    instructions: str
    turn_detection: Literal["server_vad", "semantic_vad"] = "server_vad"
    transcription_model: str = ""
    """Empty: the caller's words are not written down (and can't be told to a new session)."""
    tools: tuple[dict[str, Any], ...] = ()


def session(settings: SessionSettings) -> SessionUpdate:
    """The set-up of a session.

    The API only says when the caller speaks. It neither answers nor interrupts on its own: it
    doesn't know what was heard, nor that a cough is no reason to stop.
    """
    pcmu = {"type": "audio/pcmu"}
    turns = {
        "type": settings.turn_detection,
        "create_response": False,
        "interrupt_response": False,
    }
    heard: dict[str, Any] = {"format": pcmu, "turn_detection": turns}
    if settings.transcription_model:
        heard["transcription"] = {"model": settings.transcription_model}
    return SessionUpdate(
        {
            "type": "realtime",
            "model": settings.model,
            "output_modalities": ["audio"],
            "instructions": settings.instructions,
            "audio": {"input": heard, "output": {"format": pcmu, "voice": settings.voice}},
            "tools": list(settings.tools),
            "tool_choice": "auto",
        }
    )
