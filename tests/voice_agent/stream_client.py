"""The other end of a Media Streams WebSocket: plays the part of the telephone network in tests."""

import asyncio
import base64
import json
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect

from voice_agent.mulaw import FRAME_BYTES

STREAM_SID = "MZ" + "0" * 32
CALL_SID = "CA" + "1" * 32
ACCOUNT_SID = "AC" + "2" * 32

DEADLINE_S = 10.0

CONNECTED = {"event": "connected", "protocol": "Call", "version": "1.0.0"}


def start_message(**parameters: str) -> dict[str, Any]:
    """A complete `start` as Twilio sends it."""
    return {
        "event": "start",
        "sequenceNumber": "1",
        "streamSid": STREAM_SID,
        "start": {
            "accountSid": ACCOUNT_SID,
            "streamSid": STREAM_SID,
            "callSid": CALL_SID,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": parameters,
        },
    }


def media_message(payload: bytes) -> dict[str, Any]:
    """A `media` message of the caller."""
    return {
        "event": "media",
        "sequenceNumber": "2",
        "streamSid": STREAM_SID,
        "media": {
            "track": "inbound",
            "chunk": "1",
            "timestamp": "5",
            "payload": base64.b64encode(payload).decode(),
        },
    }


def mark_message(name: str) -> dict[str, Any]:
    """A mark that comes back."""
    return {
        "event": "mark",
        "sequenceNumber": "3",
        "streamSid": STREAM_SID,
        "mark": {"name": name},
    }


def dtmf_message(digit: str) -> dict[str, Any]:
    """A key that the caller pressed."""
    return {
        "event": "dtmf",
        "sequenceNumber": "4",
        "streamSid": STREAM_SID,
        "dtmf": {"track": "inbound_track", "digit": digit},
    }


def stop_message() -> dict[str, Any]:
    """The end of the stream."""
    return {
        "event": "stop",
        "sequenceNumber": "5",
        "streamSid": STREAM_SID,
        "stop": {"accountSid": ACCOUNT_SID, "callSid": CALL_SID},
    }


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is true; fail at the deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


class StreamClient:
    """One stream to a voice server at a port of this machine."""

    def __init__(self, port: int, path: str = "/media-stream") -> None:
        self._url = f"ws://127.0.0.1:{port}{path}"
        self.websocket: ClientConnection

    async def __aenter__(self) -> Self:
        self.websocket = await connect(self._url, compression=None)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.websocket.close()

    async def send(self, *messages: dict[str, Any]) -> None:
        """Send messages as they are."""
        for message in messages:
            await self.websocket.send(json.dumps(message))

    async def begin(self, **parameters: str) -> None:
        """Send what every stream begins with."""
        await self.send(CONNECTED, start_message(**parameters))

    async def speak(self, audio: bytes) -> None:
        """Send the caller's audio in frames of 20 ms, as fast as they are taken."""
        for start in range(0, len(audio), FRAME_BYTES):
            await self.send(media_message(audio[start : start + FRAME_BYTES]))

    async def receive(self) -> dict[str, Any]:
        """The next message of the voice server."""
        message = json.loads(await self.websocket.recv(decode=True))
        assert message["streamSid"] == STREAM_SID
        assert isinstance(message, dict)
        return message

    async def hear(self) -> tuple[bytes, str]:
        """The audio up to the next mark, and that mark's name; the mark is not returned yet."""
        audio = b""
        while (message := await self.receive())["event"] == "media":
            audio += base64.b64decode(message["media"]["payload"], validate=True)
        assert message["event"] == "mark", message
        return audio, message["mark"]["name"]

    async def hear_and_return(self) -> bytes:
        """The audio up to the next mark, which is returned as if all had been played."""
        audio, mark = await self.hear()
        await self.send(mark_message(mark))
        return audio

    async def closed(self) -> tuple[int | None, str | None]:
        """Wait for the end of the connection: close code and reason."""
        await self.websocket.wait_closed()
        return self.websocket.close_code, self.websocket.close_reason
