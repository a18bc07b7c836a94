"""What Twilio accepts from a bot on a Media Streams WebSocket, message by message. Pure.

Source: Twilio, "Media Streams - WebSocket Messages", section "Send WebSocket messages to Twilio":
`media`, `mark` and `clear`, each with the stream's `streamSid`; a payload is base64 of raw µ-law at
8,000 samples a second, without the header of an audio file.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from typing import Final, Literal, TypeAlias

from msgspec import Struct

MAX_MESSAGE_BYTES: Final = 1 << 20
"""The stack's default STREAM_MAX_MESSAGE_BYTES. Twilio names no limit of its own."""
MAX_BUFFERED_MS: Final = 10 * 60 * 1000
"""Twilio, warning 31931: more than 10 minutes of audio that waits is discarded."""

FILE_HEADERS: Final = {
    b"RIFF": "WAV",
    b"OggS": "Ogg",
    b"fLaC": "FLAC",
    b"ID3": "MP3",
    b".snd": "AU",
}
FULL_SCALE_SHARE: Final = 0.1

Rule: TypeAlias = Literal["message", "stream_sid", "payload", "file_header", "size"]


class Fault(Struct, frozen=True):
    """How a message breaks a rule."""

    rule: Rule
    expected: str
    came: str


class BotMessage(Struct, frozen=True):
    """A message of the bot as far as it can be understood.

    `audio` is µ-law, `mark` a name, `extras` are fields that Twilio's documentation does not list.
    """

    event: str
    audio: bytes = b""
    mark: str = ""
    extras: tuple[str, ...] = ()


def judge(data: str | bytes, stream_sid: str) -> tuple[BotMessage | None, list[Fault]]:
    """Read one WebSocket message of a bot; None if nothing can be done with it.

    `str` is a text message, `bytes` a binary one.
    """
    content, faults = _decode(data)
    if content is None:
        return None, faults
    sid = content.get("streamSid")
    if sid != stream_sid:
        faults.append(Fault("stream_sid", f"streamSid {stream_sid}", f"{_shown(sid)}"))
    match content.get("event"):
        case "clear":
            return BotMessage("clear", extras=_extras(content)), faults
        case "media":
            audio = _audio(content, faults) or b""
            return BotMessage("media", audio=audio, extras=_extras(content, "payload")), faults
        case "mark":
            name = _inner(content, "mark", "name", faults) or ""
            return BotMessage("mark", mark=name, extras=_extras(content, "name")), faults
        case other:
            faults.append(Fault("message", "an event of media, mark, clear", _shown(other)))
            return None, faults


def looks_linear(audio: bytes) -> bool:
    """Whether this is rather 16-bit linear PCM than µ-law.

    The quiet samples of linear PCM are full of zero bytes. In µ-law 0x00 is the most negative
    sample of all, and not more frequent than its positive counterpart 0x80.
    """
    excess = audio.count(b"\x00") - audio.count(b"\x80")
    return excess > FULL_SCALE_SHARE * len(audio)


def _decode(data: str | bytes) -> tuple[dict[str, object] | None, list[Fault]]:
    if isinstance(data, bytes):
        return None, [Fault("message", "text messages", f"a binary message of {len(data)} bytes")]
    faults: list[Fault] = []
    size_bytes = len(data.encode())
    if size_bytes > MAX_MESSAGE_BYTES:
        faults.append(
            Fault("size", f"at most {MAX_MESSAGE_BYTES} bytes in a message", f"{size_bytes} bytes")
        )
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        return None, [*faults, Fault("message", "JSON", f"{_shown(data)} ({error})")]
    if not isinstance(content, dict):
        return None, [*faults, Fault("message", "a JSON object", _shown(content))]
    return content, faults


def _audio(content: dict[str, object], faults: list[Fault]) -> bytes | None:
    payload = _inner(content, "media", "payload", faults)
    if payload is None:
        return None
    try:
        audio = b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        faults.append(Fault("payload", "base64", f"{_shown(payload)} ({error})"))
        return None
    for header, kind in FILE_HEADERS.items():
        if audio.startswith(header):
            came = f"the header of a {kind} file, {audio[:12]!r}"
            faults.append(Fault("file_header", "raw µ-law samples", came))
    return audio


def _inner(content: dict[str, object], outer: str, inner: str, faults: list[Fault]) -> str | None:
    body = content.get(outer)
    value = body.get(inner) if isinstance(body, dict) else None
    if isinstance(value, str):
        return value
    came = _shown(content.get(outer)) if body is not None else f"no {outer}"
    faults.append(Fault("message", f"{outer} with {inner}, a string", came))
    return None


def _extras(content: dict[str, object], inner: str = "") -> tuple[str, ...]:
    """The fields beyond `event`, `streamSid`, and `inner` in the object named as the event."""
    event = str(content["event"])
    outer = {"event", "streamSid", event} if inner else {"event", "streamSid"}
    body = content.get(event) if inner else None
    within = body if isinstance(body, dict) else {}
    return (
        *(name for name in content if name not in outer),
        *(f"{event}.{name}" for name in within if name != inner),
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"
