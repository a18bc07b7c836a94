"""One call: joins a WebSocket that carries it and the agent that answers it."""

import asyncio
import time
from collections.abc import Iterable
from typing import Final

import structlog
from structlog.contextvars import bind_contextvars
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from voice_agent import stream_messages
from voice_agent.agent import Action, Agent, AgentFactory, CallMetadata, PassedMark
from voice_agent.outbox import Outbox, OutboxFullError
from voice_agent.stream_messages import (
    BadMessageError,
    ConnectedMessage,
    DtmfMessage,
    IncomingMessage,
    MarkBody,
    MarkMessage,
    MediaMessage,
    StartBody,
    StartMessage,
    StopMessage,
)

log = structlog.get_logger()

START_TIMEOUT_S: Final = 10.0
"""`start` follows the opening handshake at once; a connection without it is no call."""

IDLE_S: Final = 30.0
"""A stream that says nothing for so long lost its other end."""


class StreamOrderError(Exception):
    """The peer's messages came in an order that makes no sense. The text says which."""


async def serve_call(
    websocket: ServerConnection, make_agent: AgentFactory, idle_s: float = IDLE_S
) -> None:
    """Serve the call that a WebSocket carries, until either side ends it.

    A stream without any message for `idle_s` is over as well. The WebSocket is closed with 1002
    when `start` does not come first, or not in time. Otherwise whoever called this closes it:
    with 1000, or with 1011 when this raises.

    Raises:
        Exception: what the agent raised, from a handler or `run` as an ExceptionGroup.
    """
    inbox = _Inbox(websocket, idle_s)
    try:
        start = await _receive_start(inbox)
        if start is not None:
            bind_contextvars(call_id=start.call_sid)  # for all that this task and its own log
            await _Session(inbox, make_agent(), start).run()
    except* StreamOrderError as wrong:
        reason = str(wrong.exceptions[0])
        log.warning("stream_refused", reason=reason)
        await websocket.close(CloseCode.PROTOCOL_ERROR, reason)


class _Inbox:
    """Receives the good messages of one WebSocket; drops and counts the bad ones."""

    def __init__(self, websocket: ServerConnection, idle_s: float) -> None:
        self.websocket = websocket
        self._idle_s = idle_s
        self.dropped = 0
        self._kinds: set[str] = set()

    async def next(self) -> IncomingMessage | None:
        """The next message, None when the connection is closed."""
        while True:
            try:
                async with asyncio.timeout(self._idle_s):
                    data = await self.websocket.recv()
            except ConnectionClosed:
                return None
            except TimeoutError:
                log.warning("stream_idle", seconds=self._idle_s)
                return None
            try:
                return stream_messages.decode(data)
            except BadMessageError as bad:
                self.drop(bad.kind, str(bad))

    def drop(self, kind: str, detail: str) -> None:
        """Count a message that is dropped, and warn of the first of its kind."""
        self.dropped += 1
        if kind not in self._kinds:
            self._kinds.add(kind)
            log.warning("message_dropped", kind=kind, detail=detail)


async def _receive_start(inbox: _Inbox) -> StartBody | None:
    """Wait for the stream's `start`; None when the connection is closed before.

    `connected` comes before it; a peer that leaves that out is served as well.
    """
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            message = await inbox.next()
            while isinstance(message, ConnectedMessage):
                message = await inbox.next()
    except TimeoutError as error:
        raise StreamOrderError(f"no start within {START_TIMEOUT_S:g} s") from error
    if message is None:
        return None
    if isinstance(message, StartMessage):
        return message.start
    raise StreamOrderError(f"{_event(message)} before start")


class _Session:
    """A call from its `start` on: one task reads, one writes, one is the agent's own."""

    def __init__(self, inbox: _Inbox, agent: Agent, start: StartBody) -> None:
        self._inbox = inbox
        self._agent = agent
        self._call = CallMetadata(
            start.call_sid, start.stream_sid, start.account_sid, start.custom_parameters
        )
        self._outbox = Outbox(start.stream_sid)
        self._outbox_filled = asyncio.Event()
        self._frames = 0

    async def run(self) -> None:
        """Serve the call until either side ends it.

        Raises:
            ExceptionGroup: of what the agent raised, or of a StreamOrderError.
        """
        started = time.monotonic()
        ended_by = "error"
        log.info("call_started", resumed=self._call.resumed)
        try:
            ended_by = await self._run_tasks()
        finally:
            log.info(
                "call_ended",
                ended_by=ended_by,
                seconds=round(time.monotonic() - started, 3),
                frames=self._frames,
                dropped=self._inbox.dropped,
            )
            self._agent.on_stop()

    async def _run_tasks(self) -> str:
        """Run the three tasks until reading or writing is over. Returns what ended the call."""
        self._do(self._agent.on_start(self._call))
        async with asyncio.TaskGroup() as tasks:
            own = tasks.create_task(self._agent.run(self._act))
            ends = (tasks.create_task(self._write()), tasks.create_task(self._read()))
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in (own, *ends):
                task.cancel()
        return next(iter(done)).result()

    async def _read(self) -> str:
        """Tell the agent what comes, until the stream is over. Returns what ended it."""
        stream_sid = self._call.stream_sid
        while (message := await self._inbox.next()) is not None:
            if isinstance(message, ConnectedMessage | StartMessage):
                raise StreamOrderError(f"{_event(message)} after start")
            if message.stream_sid != stream_sid:
                self._inbox.drop("stream_sid", "`streamSid` is not the one of `start`")
                continue
            match message:
                case MediaMessage():
                    self._frames += 1
                    self._do(self._agent.on_audio(message.media.payload))
                case MarkMessage():
                    self._do(self._agent.on_passed_mark(_passed(message.mark)))
                case DtmfMessage():
                    self._do(self._agent.on_dtmf(message.dtmf.digit))
                case StopMessage():
                    return "stop"
        return "disconnect"

    def _do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            self._act(action)

    def _act(self, action: Action) -> None:
        try:
            self._outbox.put(action)
        except OutboxFullError as error:
            self._inbox.drop("outbox_full", str(error))
        self._outbox_filled.set()

    async def _write(self) -> str:
        """Send what the agent wants sent, until it ends the call. Returns what ended it."""
        try:
            while not self._outbox.ended:
                await self._outbox_filled.wait()
                self._outbox_filled.clear()
                while (message := self._outbox.take()) is not None:
                    await self._inbox.websocket.send(stream_messages.encode(message), text=True)
                    await asyncio.sleep(0)  # `send` lets no other call run while buffers take all
        except ConnectionClosed:
            return "disconnect"
        return "agent"


def _passed(mark: MarkBody) -> PassedMark:
    played, cleared = (None if ms is None else int(ms) for ms in (mark.played_ms, mark.cleared_ms))
    return PassedMark(mark.name, played, cleared)


def _event(message: IncomingMessage) -> str:
    return str(message.__struct_config__.tag)
