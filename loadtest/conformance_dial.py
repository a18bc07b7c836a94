"""The opening handshake with a bot, as Twilio and this stack's workers do it."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from msgspec import Struct
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from loadtest.conformance_report import Unmet
from loadtest.conformance_rules import MAX_MESSAGE_BYTES

HANDSHAKE_S: Final = 10.0
"""Some bots accept only when the model behind them has answered."""
USER_AGENT: Final = "open-telephony-stack-conformance"


class Bot(Struct, frozen=True):
    """Where the bot is, and how to call it. `token` signs the handshake; empty: not signed."""

    url: str
    token: str = ""
    ca_file: str = ""
    patience_s: float = 4.0
    """For the bot to say something."""
    silence_s: float = 10.0
    """The length of the long silence."""
    utterance_s: float = 1.5
    """How long the caller speaks."""


class DirectConnect(connect):
    """Takes a redirect for what it is to a worker: a refusal."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class Refused(Unmet):
    """The bot answered the handshake with an HTTP status other than 101."""

    def __init__(self, status: int) -> None:
        super().__init__("the WebSocket to be accepted (HTTP 101)", f"HTTP {status}")
        self.status = status


async def dial(bot: Bot, signature: str | None = None) -> ClientConnection:
    """Open a WebSocket: no Origin, no subprotocol, no extension, `X-Twilio-Signature` with a token.

    `signature` is sent in place of the right one; "" sends none.

    Raises:
        Refused: the bot answered, but with another HTTP status.
        Unmet: the bot can't be reached, or broke the handshake, or did not answer in time.
    """
    if signature is None:
        signature = sign(bot) if bot.token else ""
    headers = {"X-Twilio-Signature": signature} if signature else {}
    tls = ssl.create_default_context(cafile=bot.ca_file or None)
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            return await DirectConnect(
                bot.url,
                additional_headers=headers,
                user_agent_header=USER_AGENT,
                compression=None,
                proxy=None,
                ssl=tls if bot.url.startswith("wss:") else None,
                open_timeout=None,
                ping_interval=None,
                close_timeout=None,
                max_size=4 * MAX_MESSAGE_BYTES,  # what is too big is judged, not cut off
            )
    except TimeoutError as error:
        raise Unmet("the WebSocket to be accepted", f"no answer in {HANDSHAKE_S:g} s") from error
    except InvalidStatus as error:
        raise Refused(error.response.status_code) from error
    except (OSError, WebSocketException) as error:
        came = f"{type(error).__name__}: {error}"
        raise Unmet("the WebSocket to be accepted", came) from error


def sign(bot: Bot) -> str:
    """The signature that Twilio would send (the official package computes it)."""
    signature: str = RequestValidator(bot.token).compute_signature(bot.url, {})
    return signature
