"""Checks that a WebSocket's handshake comes from who knows the auth token.

Pure. As Twilio describes it in "Validate that requests come from Twilio": the header
`X-Twilio-Signature` is the base64 of an HMAC-SHA1 over the URL, keyed with the auth token.
"""

import base64
import hmac
from collections.abc import Iterable
from typing import Final

HEADER: Final = "X-Twilio-Signature"


def sign(auth_token: str, url: str) -> str:
    """The signature of a handshake to `url`."""
    digest = hmac.digest(auth_token.encode(), url.encode(), "sha1")
    return base64.b64encode(digest).decode()


def is_signed(signature: str, auth_token: str, urls: Iterable[str]) -> bool:
    """Whether a signature fits one of the URLs that the caller may have used."""
    given = signature.encode()
    return any(hmac.compare_digest(given, sign(auth_token, url).encode()) for url in urls)


def urls_of(host: str, target: str, public_url: str | None) -> tuple[str, ...]:
    """The URLs that a request may have been sent to.

    `host` is its Host header, `target` its path and query. A TLS proxy hides the scheme, so both
    count, unless `public_url` says what it is; the request's query belongs to it.
    """
    if public_url is None:
        return f"wss://{host}{target}", f"ws://{host}{target}"
    query = target.partition("?")[2]
    return (f"{public_url}?{query}" if query and "?" not in public_url else public_url,)
