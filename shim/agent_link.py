"""The WebSocket to the voice server: one connection, opened once, closed once.

What a message means is not known here; `call_session` owns a link and decides when to open
the next one. Reading can be paused, so that a voice server that sends faster than the call
plays fills its own buffers instead of ours.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

import picows

SEND_BUFFER_BYTES: Final = 16 * 1024
"""Kernel buffer of a connection. The kernel's own choice would hold many seconds of audio
for a voice server that doesn't read, and all of it would be late when it reads again."""
WRITE_HIGH_WATER_BYTES: Final = 4 * 1024
CLOSE_WAIT_S: Final = 2.0
LAST_MESSAGE_LEAD_S: Final = 0.1
"""The close frame follows the last message so much later: simple-websocket (under Flask-Sock) was
seen to forget messages that are unread when the close frame arrives."""

_TEXT: Final = picows.WSMsgType.TEXT
_CONTINUATION: Final = picows.WSMsgType.CONTINUATION
_CLOSE: Final = picows.WSMsgType.CLOSE
_DATA: Final = (_TEXT, picows.WSMsgType.BINARY, _CONTINUATION)
_OK: Final = picows.WSCloseCode.OK


class LinkListener(Protocol):
    """What a link tells its owner: `on_open` first, `on_closed` last."""

    def on_open(self, link: "AgentLink") -> None:
        """The voice server has accepted the WebSocket."""

    def on_text(self, data: memoryview) -> None:
        """A whole text message; the memory is only valid during the call."""

    def on_binary(self) -> None:
        """A binary message, which Media Streams doesn't have."""

    def on_writable(self) -> None:
        """The voice server reads again."""

    def on_closed(self, code: int | None, reason: str) -> None:
        """The connection is gone. `code` is the peer's close code, None without a close frame."""


class AgentLink(picows.WSListener):
    """One connection to a voice server."""

    def __init__(self, owner: LinkListener, max_message_bytes: int) -> None:
        self.opened = False
        self._owner = owner
        self._max_message_bytes = max_message_bytes
        self._transport: picows.WSTransport | None = None
        self._fragments: bytearray | None = None
        self._fragments_are_text = False
        self._failure = ""
        self._closing = False
        self._gone = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None
        self.reading = True
        self.writable = False
        self.send: Callable[[bytes], None] = _drop
        """Sends a text message; it is dropped unless the connection is open."""

    def pause_reading(self) -> None:
        """Stop taking messages; those that were received already still come."""
        if self.reading and (transport := self._live()):
            self.reading = False
            transport.underlying_transport.pause_reading()
            transport.notify_user_specific_pong_received()  # a pong can't be read now

    def resume_reading(self) -> None:
        """Take messages again."""
        if not self.reading and (transport := self._live()):
            self.reading = True
            transport.underlying_transport.resume_reading()

    def close(self, last_message: bytes) -> None:
        """Send a last message and close the stream; the owner hears nothing of it any more."""
        self.send(last_message)
        self._closing = True
        self.writable = False
        asyncio.get_running_loop().call_later(LAST_MESSAGE_LEAD_S, self._say_goodbye, _OK)

    def close_for_restart(self) -> None:
        """Close the connection, but not the stream: it will be opened again by another worker."""
        self._say_goodbye(picows.WSCloseCode.SERVICE_RESTART)

    def _say_goodbye(self, code: picows.WSCloseCode) -> None:
        """The connection ends when the peer answers, or after `CLOSE_WAIT_S` without an answer."""
        self._closing = True
        self.writable = False
        if transport := self._live():
            transport.send_close(code)
            asyncio.get_running_loop().call_later(CLOSE_WAIT_S, transport.disconnect, False)

    def abandon(self) -> None:
        """Nobody waits for the voice server's answer any more: close if it comes."""
        self._closing = True

    def on_protocol_error(self) -> None:
        """picows closes the connection in a moment; what still comes is not taken.

        It has told of the error already, and wants it taken from `wait_disconnected`, too.
        """
        if transport := self._live():
            transport.underlying_transport.pause_reading()
            self._ending = asyncio.create_task(_disconnected(transport))

    def _live(self) -> picows.WSTransport | None:
        """The connection, if there is one that is not broken."""
        transport = self._transport
        return None if transport is None or transport.is_disconnected else transport

    async def wait_closed(self) -> None:
        """Wait until the connection is gone."""
        await self._gone.wait()

    # What picows calls

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        if self._closing:
            transport.disconnect(False)
            return
        self.opened = True
        self._transport = transport
        self.send = partial(transport.send, _TEXT)  # called for each frame: no function of ours
        stream = transport.underlying_transport
        stream.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)
        raw: socket.socket = stream.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self.writable = True
        self._owner.on_open(self)

    def send_user_specific_ping(self, transport: picows.WSTransport) -> None:
        """A ping is due; while we don't read, no pong can show that the peer is alive."""
        if self.reading:
            transport.send_ping()
        else:
            loop = asyncio.get_running_loop()
            loop.call_soon(transport.notify_user_specific_pong_received)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        kind = frame.msg_type
        if (self._closing or self._failure) and kind != _CLOSE:
            return
        if kind is _TEXT and frame.fin:
            self._owner.on_text(frame.get_payload_as_memoryview())
        elif kind in _DATA:
            self._take_fragment(transport, frame)
        elif kind == _CLOSE:
            self.writable = False
            code = frame.get_close_code()
            # A frame without a code is answered with 1000: its pseudo code can't be sent.
            transport.send_close(_OK if code == picows.WSCloseCode.NO_INFO else code)
            self._leave(transport)

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        self.writable = False
        self._transport = None  # they know each other: nothing of it shall wait for the collector
        self.send = _drop
        self._gone.set()
        if self._closing:
            return
        handshake = transport.close_handshake
        if self._failure:
            self._owner.on_closed(None, self._failure)
        elif handshake is None:
            self._owner.on_closed(None, "connection lost")
        elif handshake.recv is not None and handshake.recv_then_sent:
            self._owner.on_closed(_number(handshake.recv.code), handshake.recv.reason or "")
        else:  # picows closed it: the peer's frame, if it came, only echoes our code
            code = _number(handshake.sent.code) if handshake.sent is not None else None
            self._owner.on_closed(None, f"closed by this side with {code}")

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = not self._closing
        if self.writable:
            self._owner.on_writable()

    def _take_fragment(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Collect a fragmented message (RFC 6455 section 5.4), never more than is allowed."""
        if frame.msg_type != _CONTINUATION:
            self._fragments = bytearray()
            self._fragments_are_text = frame.msg_type == _TEXT
        if self._fragments is None:
            self._fail(transport, picows.WSCloseCode.PROTOCOL_ERROR, "stray continuation frame")
            return
        if len(self._fragments) + frame.payload_size > self._max_message_bytes:
            self._fail(transport, picows.WSCloseCode.MESSAGE_TOO_BIG, "message too big")
            return
        self._fragments += frame.get_payload_as_memoryview()
        if not frame.fin:
            return
        whole, self._fragments = self._fragments, None
        if self._fragments_are_text:
            self._owner.on_text(memoryview(whole))
        else:
            self._owner.on_binary()

    def _fail(self, transport: picows.WSTransport, code: picows.WSCloseCode, why: str) -> None:
        self._failure = why
        self._fragments = None
        transport.send_close(code, why)
        # With unread data the kernel resets the connection: first let the peer read the reason.
        asyncio.get_running_loop().call_later(LAST_MESSAGE_LEAD_S, self._leave, transport)

    def _leave(self, transport: picows.WSTransport) -> None:
        """Disconnect when all is sent, or without that: the peer may not read any more."""
        transport.disconnect()
        asyncio.get_running_loop().call_later(CLOSE_WAIT_S, transport.disconnect, False)


async def _disconnected(transport: picows.WSTransport) -> None:
    """Wait for the end of a connection that has failed, however it failed."""
    with suppress(picows.WSError):
        await transport.wait_disconnected()


def _drop(message: bytes) -> None:
    """What sends when there is no connection."""


def _number(code: picows.WSCloseCode | int) -> int:
    """The close code as a number: codes that picows has no name for come as numbers.

    No code counts as 1005 (RFC 6455 section 7.1.5).
    """
    return (code if isinstance(code, int) else code.value) or 1005
