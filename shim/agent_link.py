"""The WebSocket to the voice server: one connection, opened once, closed once.

What a message means is not known here; `call_session` owns a link and decides when to open
the next one. Reading can be paused, so that a voice server that sends faster than the call
plays fills its own buffers instead of ours.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import msgspec
import picows

from shim.twilio_signature import sign_url

SEND_BUFFER_BYTES: Final = 16 * 1024
"""Kernel buffer of a connection. The kernel's own choice would hold many seconds of audio
for a voice server that doesn't read, and all of it would be late when it reads again."""
WRITE_HIGH_WATER_BYTES: Final = 4 * 1024
READ_BUFFER_BYTES: Final = 4 * 1024
CLOSE_WAIT_S: Final = 2.0
LAST_MESSAGE_LEAD_S: Final = 0.1
"""The close frame follows the last message so much later: simple-websocket (under Flask-Sock) was
seen to forget messages that are unread when the close frame arrives."""
START_SPACING_S: Final = 0.002
PING_IDLE_S: Final = 5.0
PING_REPLY_S: Final = 5.0
USER_AGENT: Final = "open-telephony-stack"

_TEXT: Final = picows.WSMsgType.TEXT
_CONTINUATION: Final = picows.WSMsgType.CONTINUATION
_CLOSE: Final = picows.WSMsgType.CLOSE
_DATA: Final = (_TEXT, picows.WSMsgType.BINARY, _CONTINUATION)
_OK: Final = picows.WSCloseCode.OK


class LinkSettings(msgspec.Struct, frozen=True):
    """How to reach voice servers. Times in seconds; empty strings: not used."""

    handshake_timeout_s: float
    max_message_bytes: int
    auth_token: str
    bearer_token: str


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


class LinkError(Exception):
    """The voice server could not be reached; the text says why."""


class AgentLink(picows.WSListener):
    """One connection to a voice server."""

    def __init__(self, owner: LinkListener, max_message_bytes: int) -> None:
        self.opened = False
        self._owner = owner
        self._max_message_bytes = max_message_bytes
        self._transport: picows.WSTransport
        self._fragments: bytearray | None = None
        self._fragments_are_text = False
        self._failure = ""
        self._closing = False
        self._gone = asyncio.Event()
        self.reading = True
        self.writable = False
        self.send: Callable[[bytes], None]
        """Sends a text message, from `on_open` on; it is dropped when the connection is closing."""

    def pause_reading(self) -> None:
        """Stop taking messages; those that were received already still come."""
        if self.reading and not self._transport.is_disconnected:
            self.reading = False
            self._transport.underlying_transport.pause_reading()

    def resume_reading(self) -> None:
        """Take messages again."""
        if not self.reading and not self._transport.is_disconnected:
            self.reading = True
            self._transport.underlying_transport.resume_reading()

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
        if self._transport.is_disconnected:
            return
        self._transport.send_close(code)
        loop = asyncio.get_running_loop()
        loop.call_later(CLOSE_WAIT_S, self._transport.disconnect, False)

    def abandon(self) -> None:
        """Nobody waits for the voice server's answer any more: close if it comes."""
        self._closing = True

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

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        kind = frame.msg_type
        if (self._closing or self._failure) and kind != _CLOSE:
            return
        if kind == _TEXT and frame.fin:
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


def _number(code: picows.WSCloseCode | int) -> int:
    """The close code as a number: codes that picows has no name for come as numbers.

    No code counts as 1005 (RFC 6455 section 7.1.5).
    """
    return (code if isinstance(code, int) else code.value) or 1005


class LinkOpener:
    """Opens links of one worker, one after the other has begun.

    Starts are spaced, in the order in which they were asked for: when a worker takes over a
    hundred calls at once, opening a hundred connections must not hold up their audio.
    """

    def __init__(self, settings: LinkSettings, tls: ssl.SSLContext) -> None:
        self._settings = settings
        self._tls = tls
        self._free_at = 0.0

    async def open(self, url: str, owner: LinkListener, within_s: float) -> AgentLink:
        """Connect to a voice server once, and upgrade to a WebSocket (RFC 6455 section 4.1).

        No Origin, subprotocol or extension is offered, as Twilio does.

        Raises:
            LinkError: name, TCP, TLS or HTTP failed, or there was no answer in time.
        """
        now = time.monotonic()
        start_at = max(now, self._free_at)
        self._free_at = start_at + START_SPACING_S
        if start_at > now:
            await asyncio.sleep(start_at - now)
        limit_s = min(self._settings.handshake_timeout_s, within_s)
        link = AgentLink(owner, self._settings.max_message_bytes)
        try:
            async with asyncio.timeout(limit_s):
                await self._connect(url, link)
        except TimeoutError as error:
            raise LinkError(f"no answer within {limit_s:g} s") from error
        except (OSError, picows.WSError, ValueError) as error:
            raise LinkError(f"{type(error).__name__}: {error}") from error
        finally:
            if not link.opened:
                link.abandon()
        if not link.opened:  # picows takes an end instead of an answer for a success
            raise LinkError("closed without an answer")
        return link

    async def _connect(self, url: str, link: AgentLink) -> None:
        await picows.ws_connect(
            lambda: link,
            url,
            ssl_context=self._tls,
            # A wait that is cancelled leaves the connection to picows, which then ends it.
            websocket_handshake_timeout=self._settings.handshake_timeout_s,
            enable_auto_ping=True,
            auto_ping_idle_timeout=PING_IDLE_S,
            auto_ping_reply_timeout=PING_REPLY_S,
            max_frame_size=self._settings.max_message_bytes,
            max_redirects=0,
            extra_headers=self._headers(url),
            read_buffer_init_size=READ_BUFFER_BYTES,
        )

    def _headers(self, url: str) -> dict[str, str]:
        headers = {"User-Agent": USER_AGENT}
        if self._settings.auth_token:
            headers["X-Twilio-Signature"] = sign_url(self._settings.auth_token, url)
        if self._settings.bearer_token:
            headers["Authorization"] = f"Bearer {self._settings.bearer_token}"
        return headers
