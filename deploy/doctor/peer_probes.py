"""Meets Asterisk over ARI and voice servers over WebSocket, with the programs' own clients."""

import asyncio
import time
from contextlib import suppress
from ssl import SSLContext
from typing import Final
from urllib.parse import urlsplit

import msgspec

from deploy.doctor.facts import AriFacts, SipFacts, VoiceServerFacts
from deploy.doctor.tls_probe import look_at_tls, look_up
from shim.agent_link import AgentLink
from shim.environment import without_secrets
from shim.link_opener import LinkError, LinkOpener, LinkSettings
from supervisor.ari.connection import AriSettings
from supervisor.ari.events import AriError
from supervisor.ari.rest import AriRest

BUDGET_S: Final = 12.0
CLOSE_S: Final = 3.0


async def look_at_ari(settings: AriSettings) -> AriFacts:
    """Version and limits; and whether a wrong password is refused."""
    rest = AriRest(settings)
    try:
        info = await rest.info()
    except AriError as error:
        return AriFacts(problem=str(error))
    finally:
        await rest.close()
    wrong = msgspec.structs.replace(settings, password=f"not-{settings.password}")
    return AriFacts(
        version=info.system.version,
        max_open_files=info.config.max_open_files,
        takes_any_password=await _lets_in(wrong),
    )


async def _lets_in(settings: AriSettings) -> bool:
    rest = AriRest(settings)
    try:
        await rest.info()
    except AriError:
        return False
    finally:
        await rest.close()
    return True


async def look_at_voice_server(
    setting: str, url: str, link: LinkSettings, tls: SSLContext
) -> VoiceServerFacts:
    """Name, certificate, and a real handshake as for a call, which ends before `start`."""
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "wss"
    facts = VoiceServerFacts(setting, without_secrets(url), await look_up(host))
    if facts.name.problem:
        return facts
    if secure:
        seen = await look_at_tls(host, parts.port or 443, tls)
        facts = msgspec.structs.replace(facts, tls=seen)
        if seen.problem:
            return facts
    began = time.monotonic()
    problem = await _why_not_open(url, link, tls)
    took_ms = (time.monotonic() - began) * 1000
    accepts_unsigned = None
    if link.auth_token and not problem:
        unsigned = msgspec.structs.replace(link, auth_token="")
        accepts_unsigned = not await _why_not_open(url, unsigned, tls)
    return msgspec.structs.replace(
        facts, handshake_ms=took_ms, problem=problem, accepts_unsigned=accepts_unsigned
    )


async def _why_not_open(url: str, link: LinkSettings, tls: SSLContext) -> str:
    """Open a stream and close it; why it can't be opened, empty if it can."""
    try:
        opened = await LinkOpener(link, tls).open(url, _Listener(), BUDGET_S)
    except LinkError as error:
        return str(error)
    opened.close_for_restart()
    with suppress(TimeoutError):  # then it is dropped with the loop
        async with asyncio.timeout(CLOSE_S):
            await opened.wait_closed()
    return ""


class _Listener:
    """Hears nothing: the stream is closed before anything is said."""

    def on_open(self, link: AgentLink) -> None:
        """The handshake is done."""

    def on_text(self, data: memoryview) -> None:
        """Not for us."""

    def on_binary(self) -> None:
        """Not for us."""

    def on_writable(self) -> None:
        """Not for us."""

    def on_closed(self, code: int | None, reason: str) -> None:
        """As we wanted."""


async def look_at_sip(host: str, port: int, tls: SSLContext) -> SipFacts:
    """The certificate that trunks get to see, and whether old versions of TLS are refused."""
    return SipFacts(f"{host}:{port}", await look_at_tls(host, port, tls, try_old=True))
