"""The console by HTTP: its files, which hold no data, and the stream of pictures.

The page asks for credentials itself and sends them in a header of `fetch`, never as a cookie or as
what a browser has remembered: no other site can use them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web
from msgspec import Struct

from supervisor.api.access import Actor, Role
from supervisor.console.feed import MAX_VIEWERS, Feed
from supervisor.phone.phone_call import CallRejected
from supervisor.rest.errors import Code

PAGE: Final = Path(__file__).parent / "page"
TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
PAGE_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
STREAM_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Accel-Buffering": "no",
}
ADMIT_AGAIN_S: Final = 10.0
"""Credentials that were revoked see nothing more after so long."""
TOO_MANY: Final = 429
SLOW_S: Final = 10.0
"""Who can't take a picture within so long is let go."""


class Viewer(Struct, frozen=True):
    """Somebody who looks. `admit_again` raises CallRejected once they may not any more."""

    actor: Actor
    account_sid: str
    admit_again: Callable[[], Awaitable[object]]


class ConsoleRoutes:
    """Serves the page. `show_numbers`: to those who may also operate, numbers as they are."""

    def __init__(self, feed: Feed, *, show_numbers: bool) -> None:
        self._feed = feed
        self._show_numbers = show_numbers
        self._files = {path.name: path.read_bytes() for path in PAGE.iterdir() if path.is_file()}

    def close(self) -> None:
        """Let go of all who look."""
        self._feed.close()

    async def get_file(self, request: web.Request) -> web.StreamResponse:
        """`/`, or one of the files that it consists of."""
        name = request.match_info.get("file", "index.html")
        body, kind = self._files.get(name), TYPES.get(Path(name).suffix)
        if body is None or kind is None:
            raise web.HTTPNotFound
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=PAGE_HEADERS)

    def check_room(self) -> None:
        """Raises CallRejected when so many look already that nobody more may."""
        if self._feed.is_full:
            what = f"{MAX_VIEWERS} look at the console already; allowed are so many at once"
            raise CallRejected(Code.UNAVAILABLE, 503, what)

    async def stream(self, request: web.Request, viewer: Viewer) -> web.StreamResponse:
        """Pictures until the viewer goes, may not look any more, or the supervisor ends."""
        response = web.StreamResponse(headers=STREAM_HEADERS)
        await response.prepare(request)
        numbers = self._show_numbers and viewer.actor.role >= Role.OPERATE
        try:
            await _send(response, "you", msgspec.json.encode(_who(viewer, numbers=numbers)))
            await self._show(response, viewer, numbers=numbers)
        except CallRejected as error:
            await _send(response, "refused", msgspec.json.encode({"message": str(error)}))
        except (TimeoutError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()  # what is queued for who doesn't read would stay
        return response

    async def _show(self, response: web.StreamResponse, viewer: Viewer, *, numbers: bool) -> None:
        loop = asyncio.get_running_loop()
        admitted_s = loop.time()
        events = self._feed.watch(numbers=numbers)
        try:
            async for name, data in events:
                if loop.time() - admitted_s >= ADMIT_AGAIN_S:
                    await _admit_again(viewer)
                    admitted_s = loop.time()
                await _send(response, name, data)
        finally:
            await events.aclose()


async def _admit_again(viewer: Viewer) -> None:
    """Raises CallRejected; what others do with the same credentials is no reason to."""
    try:
        await viewer.admit_again()
    except CallRejected as error:
        if error.status != TOO_MANY:
            raise


async def _send(response: web.StreamResponse, name: str, data: bytes) -> None:
    """One event (HTML, section 9.2.6); raises TimeoutError, ConnectionError."""
    async with asyncio.timeout(SLOW_S):
        await response.write(b"event: %s\ndata: %s\n\n" % (name.encode(), data))


def _who(viewer: Viewer, *, numbers: bool) -> dict[str, object]:
    actor = viewer.actor
    return {
        "name": actor.name,
        "role": actor.role.name.lower(),
        "numbers": numbers,
        "account_sid": viewer.account_sid,
    }
