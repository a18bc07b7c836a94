"""Opens WebSockets to voice servers: what is offered, how long to wait, what went wrong."""

import asyncio
import logging
import ssl
import time
from typing import Any, Final

import msgspec
import picows

from shim.agent_link import AgentLink, LinkListener
from shim.twilio_signature import sign

READ_BUFFER_BYTES: Final = 4 * 1024
START_SPACING_S: Final = 0.002
PING_IDLE_S: Final = 5.0
PING_REPLY_S: Final = 5.0
USER_AGENT: Final = "open-telephony-stack"


class LinkSettings(msgspec.Struct, frozen=True):
    """How to reach voice servers. Times in seconds; empty strings: not used."""

    handshake_timeout_s: float
    max_message_bytes: int
    auth_token: str
    bearer_token: str


class LinkError(Exception):
    """The voice server could not be reached; the text says why."""


class LinkOpener:
    """Opens links of one worker, one after the other has begun.

    Starts are spaced, in the order in which they were asked for: when a worker takes over a
    hundred calls at once, opening a hundred connections must not hold up their audio.
    """

    def __init__(self, settings: LinkSettings, tls: ssl.SSLContext) -> None:
        self._settings = settings
        self._tls = tls
        self._free_at = 0.0

    async def open(
        self, url: str, owner: LinkListener, within_s: float, traceparent: str = ""
    ) -> AgentLink:
        """Connect to a voice server once, and upgrade to a WebSocket (RFC 6455 section 4.1).

        No Origin, subprotocol or extension is offered, as Twilio does. `traceparent` goes along
        as a header, if there is one (W3C Trace Context).

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
                await self._connect(url, link, self._headers(url, traceparent))
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

    async def _connect(self, url: str, link: AgentLink, headers: dict[str, str]) -> None:
        await picows.ws_connect(
            lambda: link,
            url,
            logger_name=_ErrorWatch(link),
            ssl_context=self._tls,
            # A wait that is cancelled leaves the connection to picows, which then ends it.
            websocket_handshake_timeout=self._settings.handshake_timeout_s,
            enable_auto_ping=True,
            auto_ping_idle_timeout=PING_IDLE_S,
            auto_ping_reply_timeout=PING_REPLY_S,
            max_frame_size=self._settings.max_message_bytes,
            max_redirects=0,
            extra_headers=headers,
            read_buffer_init_size=READ_BUFFER_BYTES,
        )

    def _headers(self, url: str, traceparent: str) -> dict[str, str]:
        headers = {"User-Agent": USER_AGENT}
        if self._settings.auth_token:
            headers["X-Twilio-Signature"] = sign(self._settings.auth_token, url)
        if self._settings.bearer_token:
            headers["Authorization"] = f"Bearer {self._settings.bearer_token}"
        if traceparent:
            headers["traceparent"] = traceparent
        return headers


class _ErrorWatch(logging.LoggerAdapter[logging.Logger]):
    """Hears of a link's protocol errors, of which picows tells nobody but its logger.

    It reads on for 10 ms after one, into a buffer that grows as fast as the peer sends: a
    message of 100 MB on the loopback was seen to cost 14 MB.
    """

    def __init__(self, link: AgentLink) -> None:
        super().__init__(logging.getLogger("picows.client"))
        self._link = link

    def error(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log the error, and stop to read."""
        super().error(msg, *args, **kwargs)
        self._link.on_protocol_error()
