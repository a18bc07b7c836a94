"""Looks up names and opens TLS connections, as the programs themselves would."""

import asyncio
import ssl
import time
import warnings
from typing import Final

from deploy.doctor.facts import NameFacts, TlsFacts

TIMEOUT_S: Final = 5.0


async def look_up(name: str) -> NameFacts:
    """Resolve a name as the C library does."""
    began = time.monotonic()
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            found = await loop.getaddrinfo(name, None)
    except TimeoutError:
        return NameFacts(name, (), _since_ms(began), f"no answer within {TIMEOUT_S:g} s from DNS")
    except OSError as error:
        return NameFacts(name, (), _since_ms(began), f"{name}: {error.strerror}")
    addresses = sorted({str(each[4][0]) for each in found})
    return NameFacts(name, tuple(addresses), _since_ms(began))


async def look_at_tls(
    host: str, port: int, context: ssl.SSLContext, *, try_old: bool = False
) -> TlsFacts:
    """Connect with this context, which verifies; `try_old`: and see if TLS 1.1 would do, too."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except TimeoutError:
        return TlsFacts(problem=f"no answer within {TIMEOUT_S:g} s")
    except ssl.SSLCertVerificationError as error:
        return TlsFacts(problem=f"its certificate is refused: {error.verify_message}")
    except (ssl.SSLError, OSError) as error:
        return TlsFacts(problem=f"no TLS connection: {error.strerror or error}")
    connection: ssl.SSLObject = writer.get_extra_info("ssl_object")
    certificate = connection.getpeercert() or {}
    cipher = connection.cipher()
    await _close(writer)
    return TlsFacts(
        version=connection.version() or "",
        cipher=cipher[0] if cipher else "",
        issuer=_name(certificate.get("issuer", ())),
        expires_s=float(ssl.cert_time_to_seconds(str(certificate["notAfter"]))),
        accepts_old=await _accepts_old(host, port) if try_old else None,
    )


async def _accepts_old(host: str, port: int) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    try:
        async with asyncio.timeout(TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except OSError:  # refused, as it should be; ssl.SSLError and TimeoutError are OSErrors
        return False
    await _close(writer)
    return True


async def _close(writer: asyncio.StreamWriter) -> None:
    """Without waiting for the peer's goodbye, which not every peer says."""
    writer.transport.abort()
    await asyncio.sleep(0)


def _name(issuer: object) -> str:
    """What an issuer calls itself: ((("organizationName", "x"),), ...), as ssl gives it."""
    if not isinstance(issuer, tuple):
        return ""
    parts = {key: value for relative in issuer for key, value in relative}
    return str(parts.get("organizationName") or parts.get("commonName") or "")


def _since_ms(began: float) -> float:
    return (time.monotonic() - began) * 1000
