"""A call as Twilio makes it: plays the caller and the phone network on a bot's WebSocket.

    async with place_call(bot) as call:
        await call.listen(2.0)
        call.speak(audio)
        ...
        await call.hang_up()

The caller's audio goes out each 20 ms, silence where nothing is said. What the bot sends is played
at the same pace, and marks come back when their turn is over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

from msgspec import Struct, field
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from loadtest.audio import FRAME_BYTES, SILENCE_BYTE
from loadtest.conformance_dial import Bot, dial
from loadtest.conformance_messages import PTIME_MS, CallSids, TwilioMessages, new_sids
from loadtest.conformance_report import Unmet
from loadtest.conformance_rules import BotMessage, Fault, judge
from shim.playout import PassedMark, Playout

READ_S: Final = 5.0
"""A bot that takes nothing for so long does not read."""
CLOSE_S: Final = 5.0
STOP_LEAD_S: Final = 0.1
"""Between `stop` and the close frame: some libraries forget what is unread when that arrives."""
LOOK_AGAIN_S: Final = 0.01
LISTEN_ON_S: Final = 0.5
"""So much of the call follows a provocation before its survival counts."""
NORMAL_ENDS: Final = frozenset({1000, 1005})
"""RFC 6455 section 7.4.1: a normal close, and a close frame without a code."""


class Transcript(Struct):
    """What the bot sent in a call."""

    messages: list[BotMessage] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    most_buffered_ms: int = 0

    @property
    def audio(self) -> bytes:
        """All audio, whether it was played or cleared."""
        return b"".join(message.audio for message in self.messages)

    def count(self, event: str) -> int:
        """How many messages of one kind there were."""
        return sum(message.event == event for message in self.messages)


class PlayedCall:
    """A call in progress; `place_call` makes it.

    Args:
        websocket: the open connection to the bot, which the call owns from now on.
        sids: the call's ids.
        hold_marks: keep marks back until `return_marks`.
    """

    def __init__(self, websocket: ClientConnection, sids: CallSids, *, hold_marks: bool) -> None:
        self.sids = sids
        self.messages = TwilioMessages(sids)
        self.transcript = Transcript()
        self.muted = False
        """While it is set, packets of the caller are lost."""
        self.held_marks: list[str] = []
        self.returned_marks = 0
        self._hold_marks = hold_marks
        self._websocket = websocket
        self._playout = Playout()
        self._speech = b""
        self._news = asyncio.Event()
        self._failure: Unmet | None = None
        self._reading = asyncio.create_task(self._read())
        self._pacing = asyncio.create_task(self._pace())

    @property
    def close_code(self) -> int | None:
        """The bot's close code, 1006 if the connection just ended, None while it is open."""
        return self._websocket.close_code

    @property
    def playing(self) -> bool:
        """Whether audio of the bot waits to be played."""
        return self._playout.queued_bytes > 0

    def speak(self, audio: bytes) -> None:
        """The caller says this µ-law audio from now on, then is silent."""
        self._speech = audio

    async def listen(self, seconds: float) -> None:
        """Let the call go on; returns early when the bot ends it."""
        await self.listen_until(lambda: False, seconds)

    async def listen_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Let the call go on until something is so; False when it ends or takes longer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition() and self.close_code is None and self._failure is None:
                    self._news.clear()
                    await self._news.wait()
        if self._failure is not None:
            raise self._failure
        return condition()

    async def survives(self, what: str, seconds: float = LISTEN_ON_S) -> str | None:
        """Let the call go on for a moment; returns a remark if the bot has ended it properly.

        Raises:
            Unmet: it has ended in another way.
        """
        await self.listen(seconds)
        code = self.close_code
        if code is None:
            return None
        if code in NORMAL_ENDS:
            return f"the bot ended the call with {code}"
        reason = f" ({self._websocket.close_reason})" if self._websocket.close_reason else ""
        raise Unmet(
            f"the stream open, or closed with 1000, after {what}", f"close code {code}{reason}"
        )

    async def send(self, message: str) -> None:
        """Send a message; one to a bot that has gone is dropped, as `close_code` tells."""
        try:
            async with asyncio.timeout(READ_S):
                await self._websocket.send(message)
        except ConnectionClosed:
            self._news.set()
        except TimeoutError:
            self._failure = Unmet("the bot to read its messages", f"nothing read for {READ_S:g} s")
            self._news.set()

    async def return_marks(self) -> None:
        """Return all marks that were kept back in one burst, and later ones in their turn."""
        self._hold_marks = False
        held, self.held_marks = self.held_marks, []
        for name in held:
            await self._return(name)

    async def ping(self) -> None:
        """Ask the bot's WebSocket for a sign of life (RFC 6455 section 5.5.2); raises Unmet."""
        try:
            async with asyncio.timeout(READ_S):
                await (await self._websocket.ping())
        except TimeoutError as error:
            raise Unmet(f"a pong within {READ_S:g} s", "none") from error
        except ConnectionClosed as error:
            raise Unmet("a pong", f"the connection was closed: {error}") from error

    async def hang_up(self) -> None:
        """The caller hangs up: `stop`, a moment later a close frame, which must be answered.

        Raises:
            Unmet: the bot neither answers nor ends the connection.
        """
        await _end(self._pacing)
        await self.send(self.messages.stop())
        await asyncio.sleep(STOP_LEAD_S)
        closing = asyncio.create_task(self._websocket.close())
        protocol = self._websocket.protocol
        try:
            async with asyncio.timeout(CLOSE_S):
                # The bot need not end the TCP connection: this side may do so too.
                while protocol.close_rcvd is None and not closing.done():  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_AGAIN_S)  # what is waited for has no event
        except TimeoutError as error:
            raise Unmet(
                f"a close frame within {CLOSE_S:g} s after stop and ours", "none"
            ) from error
        finally:
            await _end(closing)

    async def close(self) -> None:
        """Cut the connection if it is still there: no `stop`, no close frame."""
        self._websocket.transport.abort()
        await _end(self._pacing)
        await _end(self._reading)

    async def _read(self) -> None:
        try:
            while True:
                data = await self._websocket.recv()
                message, faults = judge(data, self.sids.stream)
                self.transcript.faults.extend(faults)
                if message is not None:
                    self.transcript.messages.append(message)
                    await self._obey(message)
                self._news.set()
        except ConnectionClosed:
            self._news.set()  # `close_code` says how it ended

    async def _obey(self, message: BotMessage) -> None:
        playout = self._playout
        match message.event:
            case "media":
                playout.push(message.audio)
                waiting_ms = playout.queued_bytes * PTIME_MS // FRAME_BYTES
                self.transcript.most_buffered_ms = max(self.transcript.most_buffered_ms, waiting_ms)
            case "mark":
                playout.mark(message.mark)
                await self._pass(playout.passed())
            case "clear":
                await self._pass(playout.clear())

    async def _pace(self) -> None:
        """One frame each way per 20 ms, by absolute deadlines."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while self.close_code is None:
            frame, self._speech = self._speech[:FRAME_BYTES], self._speech[FRAME_BYTES:]
            if self.muted:
                self.messages.lose_media()
            else:
                await self.send(self.messages.media(frame.ljust(FRAME_BYTES, SILENCE_BYTE)))
            self._playout.pull()
            await self._pass(self._playout.passed())
            self._news.set()
            due += PTIME_MS / 1000
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def _pass(self, marks: list[PassedMark]) -> None:
        for mark in marks:
            if self._hold_marks:
                self.held_marks.append(mark.name)
            else:
                await self._return(mark.name)

    async def _return(self, name: str) -> None:
        self.returned_marks += 1
        await self.send(self.messages.mark(name))


async def _end(task: asyncio.Task[None]) -> None:
    """Stop a task; an error that it ended with is raised here."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error


@contextlib.asynccontextmanager
async def place_call(
    bot: Bot,
    parameters: dict[str, str] | None = None,
    *,
    sids: CallSids | None = None,
    signature: str | None = None,
    hold_marks: bool = False,
) -> AsyncIterator[PlayedCall]:
    """Open a stream to a bot, `connected` and `start` included; leaving the block cuts it.

    `sids` are taken in place of new ones; `signature` as for `dial`, which names the errors too.
    """
    websocket = await dial(bot, signature)
    call = PlayedCall(websocket, sids or new_sids(), hold_marks=hold_marks)
    try:
        await call.send(call.messages.connected())
        await call.send(call.messages.start(parameters or {}))
        yield call
    finally:
        await call.close()
