"""Requests to the operator's web server: for TwiML and sounds, and to tell it of calls.

Twilio's form and signature; only to allowed hosts; redirects are not followed.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Self, TypeAlias
from urllib.parse import urlencode, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

from supervisor.phone.allowed_hosts import AllowedHosts, is_private
from supervisor.phone.call_forms import sign

TIMEOUT_S: Final = 15.0
"""Twilio's own patience with a webhook."""
MAX_BYTES: Final = 8 * 1024 * 1024
"""The largest answer that is read; a sound of eight minutes fits."""


RequestTrace: TypeAlias = Callable[[str, str, str], AbstractContextManager[str]]
"""What traces a request, by CallSid, method and URL: it gives its `traceparent`, or ""."""


class WebhookError(Exception):
    """The web server gave no usable answer; the text names host and reason, not the URL's query."""


@contextmanager
def untraced(_call_sid: str, _method: str, _url: str) -> Iterator[str]:
    """The request isn't traced."""
    yield ""


class PublicResolver(AbstractResolver):
    """Looks up names, and hides private addresses of hosts that must be public."""

    def __init__(self, hosts: AllowedHosts) -> None:
        self.hosts = hosts
        self._inner = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses; OSError when none is allowed."""
        found = await self._inner.resolve(host, port, family)
        if not self.hosts.needs_public_address(host):
            return found
        public = [each for each in found if not is_private(each["host"])]
        if not public:
            raise OSError(f"{host} has private addresses only, and WEBHOOK_HOSTS doesn't name it")
        return public

    async def close(self) -> None:
        """Let go of the resolver inside."""
        await self._inner.close()


class Webhooks:
    """Asks web servers. Create it in a running loop, and close it.

    Requests about a call, those with a form, are traced by `trace`.
    """

    def __init__(
        self, hosts: AllowedHosts, auth_token: str, trace: RequestTrace = untraced
    ) -> None:
        self._trace = trace
        self._resolver = PublicResolver(hosts)
        self._token = auth_token
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=self._resolver, limit_per_host=100),
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "open-telephony-stack"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    def renew(self, hosts: AllowedHosts, auth_token: str) -> None:
        """Ask these hosts, and sign with this token, from now on."""
        self._resolver.hosts = hosts
        self._token = auth_token

    def check(self, url: str) -> None:
        """Raises ValueError if the URL's host isn't allowed."""
        self._resolver.hosts.check(url)

    async def ask(self, url: str, method: str, form: Mapping[str, str]) -> bytes:
        """The answer's body. GET carries the form in the URL's query.

        Raises:
            WebhookError: the host isn't allowed, there is no answer within 15 s, it isn't 2xx, or
                it is too large.
        """
        trace = self._trace if "CallSid" in form else untraced
        with trace(form.get("CallSid", ""), method, url) as traceparent:
            headers = {"traceparent": traceparent} if traceparent else {}
            return await self._ask(url, method, form, headers)

    async def _ask(
        self, url: str, method: str, form: Mapping[str, str], headers: dict[str, str]
    ) -> bytes:
        try:
            self.check(url)
        except ValueError as error:  # which may show the URL, here still without the form
            raise WebhookError(str(error)) from error
        host = urlsplit(url).hostname
        if method == "GET" and form:
            url += ("&" if urlsplit(url).query else "?") + urlencode(form)
        body = dict(form) if method == "POST" else None
        if self._token:
            headers["X-Twilio-Signature"] = sign(self._token, url, body or {})
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                self._session.request(
                    method, url, data=body, headers=headers, allow_redirects=False
                ) as answer,
            ):
                if not 200 <= answer.status < 300:
                    raise WebhookError(f"{host} answered with {answer.status}, needed is 2xx")
                return await _read(answer)
        except TimeoutError as error:
            raise WebhookError(f"{host} gave no answer within {TIMEOUT_S:g} s") from error
        except aiohttp.InvalidURL as error:  # its text is the URL, with what was pressed
            raise WebhookError(f"{host}: not a URL that can be asked") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise WebhookError(f"{host}: {error}") from error


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for part in answer.content.iter_chunked(65536):
        body += part
        if len(body) > MAX_BYTES:
            raise WebhookError(f"{answer.url.host} sent more than {MAX_BYTES} bytes")
    return bytes(body)
