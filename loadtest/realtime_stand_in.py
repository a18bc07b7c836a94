"""A stand-in for OpenAI's Realtime API, for tests and for trying the agent without an account.

It hears turns by loudness, answers with what its plans say, and misbehaves where they say so:
`python -m loadtest.realtime_stand_in --port 8089`, then start the voice agent with
`AGENT=openai OPENAI_API_KEY=any OPENAI_URL=ws://127.0.0.1:8089/`.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from voice_agent.mulaw import BYTES_PER_MS
from voice_agent.sounds import tone
from voice_agent.speech import SpeechDetector, SpeechEnded, SpeechStarted

DELTA_BYTES: Final = 100 * BYTES_PER_MS
TRANSCRIPT: Final = "hello there"
"""What it takes every caller's turn for."""


@dataclass(frozen=True)
class Plan:
    """What one response is to be. Without a plan it is the default."""

    audio: bytes = b""
    text: str = "This is the answer."
    tool: tuple[str, str] | None = None
    """A function call, name and JSON arguments, instead of audio."""
    late_s: float = 0.0
    """The audio comes so long after `response.created`."""
    held: bool = False
    """The response is not done after its audio, until it is cancelled."""
    failed: str = ""
    """`response.done` with status `failed` and this error code, as for a rate limit."""
    refused: str = ""
    """An `error` event with this code, and no response."""
    over: str = ""
    """After the audio the connection ends: "lost" without a close frame, "expired" as at the
    session's time limit."""


DEFAULT: Final = Plan(audio=tone(520, 600))


@dataclass
class Session:
    """One connection: what came, parsed, and what the stand-in is doing."""

    websocket: ServerConnection
    received: list[dict[str, Any]] = field(default_factory=list)
    speech: SpeechDetector = field(default_factory=SpeechDetector)
    heard_bytes: int = 0
    items: int = 0
    active: str = ""
    response: asyncio.Task[None] | None = None

    def kinds(self) -> list[str]:
        """The types of the events that came, but for the audio."""
        return [e["type"] for e in self.received if e["type"] != "input_audio_buffer.append"]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The events of one type."""
        return [event for event in self.received if event["type"] == kind]

    async def send(self, kind: str, **content: Any) -> None:
        """Send an event."""
        event = {"type": kind, "event_id": self.new_id("event"), **content}
        await self.websocket.send(json.dumps(event))

    def new_id(self, kind: str) -> str:
        """An id that this session has not used yet."""
        self.items += 1
        return f"{kind}_{id(self):x}_{self.items}"


class RealtimeStandIn:
    """The server; `plans` are used up one by one, `sessions` are all connections so far.

    `refuse_status`: an HTTP status that every handshake gets instead. `on_event` sees each
    client event.
    """

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._server: Server
        self.plans: deque[Plan] = deque()
        self.sessions: list[Session] = []
        self.refuse_status: int | None = None
        self.overlaps = 0
        """Responses that were asked for while another was active: the real API refuses them."""
        self.on_event: Callable[[dict[str, Any]], None] = lambda event: None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1/realtime"

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._serve, "127.0.0.1", self._port, process_request=self._admit, compression=None
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        await self._server.wait_closed()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.refuse_status is not None:
            return connection.respond(self.refuse_status, "refused\n")
        if not request.headers.get("Authorization", "").startswith("Bearer "):
            return connection.respond(401, "no key\n")
        return None

    async def _serve(self, websocket: ServerConnection) -> None:
        session = Session(websocket)
        self.sessions.append(session)
        try:
            await session.send("session.created", session={"type": "realtime"})
            async for data in websocket:
                event = json.loads(data)
                session.received.append(event)
                self.on_event(event)
                await self._handle(session, event)
        except ConnectionClosed:
            pass  # the other side went first, which is its right
        finally:
            if session.response is not None:
                session.response.cancel()

    async def _handle(self, session: Session, event: dict[str, Any]) -> None:
        match event["type"]:
            case "session.update":
                await session.send("session.updated", session=event["session"])
            case "input_audio_buffer.append":
                await self._hear(session, base64.b64decode(event["audio"], validate=True))
            case "response.create":
                await self._create(session, event)
            case "response.cancel" if session.active:
                if session.response is not None:
                    session.response.cancel()
                await self._done(session, "cancelled")
            case "response.cancel":
                await _error(session, "response_cancel_not_active", event)
            case "conversation.item.truncate":
                await session.send(
                    "conversation.item.truncated",
                    **{name: event[name] for name in ("item_id", "content_index", "audio_end_ms")},
                )

    async def _hear(self, session: Session, audio: bytes) -> None:
        session.heard_bytes += len(audio)
        now_ms = session.heard_bytes // BYTES_PER_MS
        match session.speech.push(audio):
            case SpeechStarted():
                await session.send(
                    "input_audio_buffer.speech_started", audio_start_ms=now_ms, item_id="next"
                )
            case SpeechEnded():
                item_id = session.new_id("item")
                await session.send(
                    "input_audio_buffer.speech_stopped", audio_end_ms=now_ms, item_id=item_id
                )
                await session.send("input_audio_buffer.committed", item_id=item_id)
                await session.send(
                    "conversation.item.input_audio_transcription.completed",
                    item_id=item_id,
                    content_index=0,
                    transcript=TRANSCRIPT,
                    usage={"type": "duration", "seconds": 1},
                )

    async def _create(self, session: Session, event: dict[str, Any]) -> None:
        if session.active:
            self.overlaps += 1
            await _error(session, "conversation_already_has_active_response", event)
            return
        plan = self.plans.popleft() if self.plans else DEFAULT
        if plan.refused:
            await _error(session, plan.refused, event)
            return
        session.active = session.new_id("resp")
        await session.send(
            "response.created",
            response={"object": "realtime.response", "id": session.active, "status": "in_progress"},
        )
        session.response = asyncio.create_task(self._respond(session, plan))

    async def _respond(self, session: Session, plan: Plan) -> None:
        item_id = session.new_id("item")
        common = {"response_id": session.active, "item_id": item_id, "output_index": 0}
        await asyncio.sleep(plan.late_s)
        if plan.audio:
            await session.send(
                "response.output_audio_transcript.delta",
                content_index=0,
                delta=plan.text,
                **common,
            )
        for start in range(0, len(plan.audio), DELTA_BYTES):
            delta = base64.b64encode(plan.audio[start : start + DELTA_BYTES]).decode()
            await session.send(
                "response.output_audio.delta", content_index=0, delta=delta, **common
            )
        if plan.over:
            await self._end(session, plan.over)
        elif not plan.held:
            await self._done(session, "failed" if plan.failed else "completed", plan)

    async def _end(self, session: Session, how: str) -> None:
        if how == "lost":
            session.websocket.transport.abort()
            return
        await _error(session, "session_expired", {})
        await session.websocket.close()

    async def _done(self, session: Session, status: str, plan: Plan = DEFAULT) -> None:
        response: dict[str, Any] = {
            "object": "realtime.response",
            "id": session.active,
            "status": status,
            "output": [],
        }
        if status == "failed":
            error = {"type": "rate_limit_error", "code": plan.failed}
            response["status_details"] = {"type": "failed", "error": error}
        elif status == "completed" and plan.tool is not None:
            name, arguments = plan.tool
            call = {"call_id": session.new_id("call"), "name": name, "arguments": arguments}
            response["output"] = [{"type": "function_call", "status": "completed", **call}]
        session.active = ""
        await session.send("response.done", response=response)


async def _error(session: Session, code: str, cause: dict[str, Any]) -> None:
    error = {
        "type": "invalid_request_error",
        "code": code,
        "message": f"stand-in: {code}",
        "event_id": cause.get("event_id"),
    }
    await session.send("error", error=error)


async def _run(port: int) -> None:
    async with RealtimeStandIn(port) as stand_in:
        print(f"OPENAI_URL={stand_in.url}", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="A stand-in for OpenAI's Realtime API.")
    parser.add_argument("--port", type=int, default=8089, help="TCP port on loopback")
    try:
        asyncio.run(_run(parser.parse_args().port))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
