"""ARI's REST calls, typed, each bounded in time.

Paths, parameters and statuses are those of the ARI reference (rest-api/api-docs/channels.json,
bridges.json and asterisk.json of Asterisk 22). The caller chooses the ids of channels and bridges:
so what was made can be looked up and removed even when the answer got lost.
"""

import asyncio
import random
from contextlib import suppress
from typing import Literal, TypeVar
from urllib.parse import quote

from msgspec import Struct
from yarl import URL

from supervisor.ari.connection import (
    CONNECTION_ERRORS,
    AriCounters,
    AriSettings,
    open_session,
    retry_delay_s,
    was_cut_off,
    was_never_sent,
    why_failed,
)
from supervisor.ari.events import (
    AriAbsent,
    AriRefused,
    AriTimeout,
    AriUnreachable,
    AsteriskInfo,
    Bridge,
    Channel,
    Variable,
    decode_answer,
    media_address,
    refusal,
)

T = TypeVar("T")

HangupReason = Literal[
    "normal",
    "busy",
    "congestion",
    "no_answer",
    "timeout",
    "rejected",
    "unallocated",
    "normal_unspecified",
    "number_incomplete",
    "codec_mismatch",
    "interworking",
    "failure",
    "answered_elsewhere",
]
"""Why we hang up; Asterisk makes a Q.850 cause of it, which the caller's side gets to see."""


class Request(Struct, frozen=True):
    """One REST request. `repeatable`: doing it twice is the same as doing it once."""

    kind: str
    method: str
    path: str
    query: dict[str, str] = {}
    repeatable: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def path(*parts: str) -> str:
    """A path below /ari, its parts quoted.

    Raises:
        ValueError: a part is empty, so that another resource would be meant.
    """
    if not all(parts):
        raise ValueError(f"an id in the ARI path {'/'.join(parts)!r} is empty")
    return "".join("/" + quote(part, safe="") for part in parts)


class AriRest:
    """The REST calls over kept-alive connections. Create it in a running loop, and close it.

    Every call raises AriRefused when Asterisk says no, AriUnreachable when there is no answer to be
    had, AriTimeout when it does not come in time, and AriDecodeError when it makes no sense. After
    anything but success of a call that creates something, it may exist all the same: look for it.
    """

    def __init__(self, settings: AriSettings) -> None:
        self.counters = AriCounters()
        self._settings = settings
        self._session = open_session(settings)

    async def close(self) -> None:
        """Close all connections; requests under way fail."""
        await self._session.close()

    async def info(self) -> AsteriskInfo:
        """Asterisk's version, limits and start time: `GET /asterisk/info`."""
        return await self._ask(AsteriskInfo, Request("info", "GET", "/asterisk/info"))

    async def list_channels(self) -> list[Channel]:
        """All channels of this Asterisk, those of other apps included: `GET /channels`."""
        return await self._ask(list[Channel], Request("list_channels", "GET", "/channels"))

    async def list_bridges(self) -> list[Bridge]:
        """All bridges of this Asterisk: `GET /bridges`."""
        return await self._ask(list[Bridge], Request("list_bridges", "GET", "/bridges"))

    async def get_channel(self, channel_id: str) -> Channel | None:
        """A channel, None when there is none of this id: `GET /channels/{id}`."""
        request = Request("get_channel", "GET", path("channels", channel_id))
        with suppress(AriAbsent):
            return await self._ask(Channel, request)
        return None

    async def create_external_media(
        self, channel_id: str, external_host: str, *, app_args: str = "", audio_format: str = "ulaw"
    ) -> Channel:
        """A channel that exchanges RTP with `external_host` (host:port), in our app.

        `POST /channels/externalMedia`. The answer's channelvars hold Asterisk's own address, see
        `media_address`. The channel's StasisStart, with `app_args` split at commas, may come before
        or after the answer. Don't try again without `get_channel`: an id that exists already is
        answered with 500, and with that Asterisk 22.10.1 miscounts its channels and takes 15 s
        longer to stop.
        """
        query = {
            "channelId": channel_id,
            "app": self._settings.app,
            "external_host": external_host,
            "format": audio_format,
            "encapsulation": "rtp",
            "transport": "udp",
            "direction": "both",
            "data": app_args,
        }
        request = Request("create_external_media", "POST", "/channels/externalMedia", query)
        return await self._ask(Channel, request)

    async def get_media_address(self, channel_id: str) -> tuple[str, int]:
        """Where Asterisk sends and expects an external media channel's RTP, asked for again.

        Raises:
            AriDecodeError: the channel does not say, or is not there.
        """
        names = ("UNICASTRTP_LOCAL_ADDRESS", "UNICASTRTP_LOCAL_PORT")
        values = {name: await self.get_variable(channel_id, name) or "" for name in names}
        return media_address(Channel(channel_id, channelvars=values))

    async def delete_channel(self, channel_id: str, reason: HangupReason = "normal") -> None:
        """Hang up; a channel that is not there counts as done: `DELETE /channels/{id}`."""
        target = path("channels", channel_id)
        with suppress(AriAbsent):
            await self._do(Request("delete_channel", "DELETE", target, {"reason": reason}))

    async def answer(self, channel_id: str) -> None:
        """Answer; no harm when it is up already: `POST /channels/{id}/answer`."""
        target = path("channels", channel_id, "answer")
        await self._do(Request("answer", "POST", target, repeatable=True))

    async def continue_in_dialplan(
        self, channel_id: str, place: tuple[str, str, int] | None = None
    ) -> None:
        """Give the call back to the dialplan: `POST /channels/{id}/continue`.

        To its next line, or to a `place`: context, extension, priority.
        """
        target = path("channels", channel_id, "continue")
        query = {}
        if place is not None:
            query = {"context": place[0], "extension": place[1], "priority": str(place[2])}
        await self._do(Request("continue_in_dialplan", "POST", target, query))

    async def send_dtmf(self, channel_id: str, digits: str) -> None:
        """Play digits (0-9 * # A-D) to the channel: `POST /channels/{id}/dtmf`.

        The answer comes at once, but what is asked of the channel next waits for the last digit.
        """
        target = path("channels", channel_id, "dtmf")
        await self._do(Request("send_dtmf", "POST", target, {"dtmf": digits}))

    async def set_variable(self, channel_id: str, name: str, value: str) -> None:
        """Set a variable or a function like CALLERID(name): `POST /channels/{id}/variable`."""
        target, query = path("channels", channel_id, "variable"), {"variable": name, "value": value}
        await self._do(Request("set_variable", "POST", target, query, repeatable=True))

    async def get_variable(self, channel_id: str, name: str) -> str | None:
        """A variable; None if it or the channel is not there: `GET /channels/{id}/variable`."""
        target = path("channels", channel_id, "variable")
        with suppress(AriAbsent):
            request = Request("get_variable", "GET", target, {"variable": name})
            return (await self._ask(Variable, request)).value
        return None

    async def create_bridge(self, bridge_id: str) -> Bridge:
        """A mixing bridge; one that has this id already is as good: `POST /bridges/{id}`."""
        target = path("bridges", bridge_id)
        request = Request("create_bridge", "POST", target, {"type": "mixing"}, repeatable=True)
        try:
            return await self._ask(Bridge, request)
        except AriRefused as error:
            if error.status != 409:
                raise
            return await self._ask(Bridge, Request("get_bridge", "GET", target))

    async def get_bridge(self, bridge_id: str) -> Bridge | None:
        """A bridge, None when there is none of this id: `GET /bridges/{id}`."""
        with suppress(AriAbsent):
            return await self._ask(Bridge, Request("get_bridge", "GET", path("bridges", bridge_id)))
        return None

    async def add_to_bridge(self, bridge_id: str, *channel_ids: str) -> None:
        """Join channels: `POST /bridges/{id}/addChannel`. All are checked before any is added.

        Raises:
            ChannelNotInStasis: one has not had its StasisStart yet, or left (422); nothing changed.
        """
        target = path("bridges", bridge_id, "addChannel")
        query = {"channel": ",".join(channel_ids)}
        await self._do(Request("add_to_bridge", "POST", target, query))

    async def delete_bridge(self, bridge_id: str) -> None:
        """Remove a bridge; one that is not there counts as done: `DELETE /bridges/{id}`."""
        with suppress(AriAbsent):
            await self._do(Request("delete_bridge", "DELETE", path("bridges", bridge_id)))

    async def _do(self, request: Request) -> None:
        with self.counters.measure(request.kind):
            await self._body(request)

    async def _ask(self, kind: type[T], request: Request) -> T:
        with self.counters.measure(request.kind):
            return decode_answer(kind, await self._body(request))

    async def _body(self, request: Request) -> bytes:
        """The answer's body, however many attempts it takes within the time-out."""
        limit_s, attempt, why = self._settings.request_timeout_s, 0, ""
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    try:
                        return await self._attempt(request)
                    except CONNECTION_ERRORS as error:
                        why = self._unless_retry(request, error)
                    await asyncio.sleep(retry_delay_s(attempt, random.random()))
                    attempt += 1
        except TimeoutError as error:
            if attempt:
                raise AriUnreachable(f"{request}: {why}, {attempt + 1} times") from error
            raise AriTimeout(f"{request}: no answer within {limit_s:g} s") from error

    def _unless_retry(self, request: Request, error: Exception) -> str:
        """Raise AriUnreachable unless the request is worth another attempt; if it is, say why."""
        why = why_failed(error)
        if was_cut_off(error) and not self._session.closed:
            self.counters.closed_without_answer += 1
            if was_never_sent(error) or request.repeatable or request.method in ("GET", "DELETE"):
                return why
        raise AriUnreachable(f"{request}: {why}") from error

    async def _attempt(self, request: Request) -> bytes:
        url = URL(self._settings.root + request.path, encoded=True).with_query(request.query)
        async with self._session.request(request.method, url, allow_redirects=False) as answer:
            body = await answer.read()
        if 200 <= answer.status < 300:
            return body
        raise refusal(str(request), answer.status, body)
