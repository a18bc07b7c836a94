"""The console by HTTP: who sees it, what the page may do, and how a stream begins and ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from supervisor.api.access import new_key
from supervisor.console import routes
from supervisor.console.feed import MAX_VIEWERS, Feed
from supervisor.console.routes import PAGE, ConsoleRoutes
from tests.shim.polling import until
from tests.supervisor.console.make import call, seen
from tests.supervisor.console.sse import next_event, until_event
from tests.supervisor.rest_rig import API_TOKEN, RestRig, basic, entries

BEARER = f"Bearer {API_TOKEN}"
LIVE = "/console/live"
feeds: list[Feed] = []
"""Those that `console` has made."""


@asynccontextmanager
async def console(
    audit: Path | None = None, *, show_numbers: bool = False, keys_path: str = ""
) -> AsyncIterator[RestRig]:
    """A console that shows one call."""
    feed = Feed(lambda: seen(call()))
    feeds.append(feed)
    pages = ConsoleRoutes(feed, show_numbers=show_numbers)
    running = asyncio.create_task(feed.run())
    async with RestRig(audit, keys_path=keys_path, console=pages) as rig:
        yield rig
    await running


@asynccontextmanager
async def watching(
    rig: RestRig, authorization: str = BEARER
) -> AsyncIterator[aiohttp.ClientResponse]:
    """A stream that has begun."""
    headers = {"Authorization": authorization}
    async with (
        aiohttp.ClientSession() as session,
        session.get(rig.base + LIVE, headers=headers) as answer,
    ):
        assert answer.status == 200
        yield answer


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        *(
            (f"/console/{path.name}", routes.TYPES[path.suffix])
            for path in PAGE.iterdir()
            if path.suffix in routes.TYPES
        ),
    ],
)
async def test_the_page_is_for_everybody(path: str, kind: str) -> None:
    """It holds no data. Only its own scripts run, and nobody may frame it."""
    async with console() as rig:
        answer = await rig.ask("GET", path, authorization=None)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == f"{kind}; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_the_page_asks_no_other_host() -> None:
    """Nothing of ours names one; that the library asks none, the real browser shows."""
    ours = [path for path in PAGE.iterdir() if not path.name.startswith("uplot")]
    assert len(ours) > 10
    for path in ours:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, path.name
        assert "innerHTML" not in text, path.name


@pytest.mark.parametrize(
    "path", ["/console/routes.py", "/console/..%2froutes.py", "/console/", "/console/uplot.LICENSE"]
)
async def test_only_its_files(path: str) -> None:
    """What isn't part of the page isn't there."""
    async with console() as rig:
        assert (await rig.ask("GET", path)).status == 404


async def test_who_may_look() -> None:
    """Credentials are needed; the role `read` suffices."""
    async with console() as rig:
        assert (await rig.ask("GET", LIVE, authorization=None)).status == 401
        assert (await rig.ask("GET", LIVE, authorization="Bearer wrong-token-here")).status == 401
        async with watching(rig, basic()) as answer:
            assert answer.headers["Cache-Control"] == "no-store"
            name, you = await next_event(answer) or ("", {})
            assert name == "you"
            assert (you["name"], you["role"], you["numbers"]) == ("account", "operate", False)
            assert (await until_event(answer, "history"))["period_s"] == 5
            picture = await until_event(answer, "now")
            assert picture["calls"][0][0] == call().sid


async def test_there_may_be_none() -> None:
    """CONSOLE=off."""
    async with RestRig() as rig:
        for path in ("/", "/console/app.js", LIVE):
            assert (await rig.ask("GET", path)).status == 404


async def test_numbers_are_for_who_may_operate(tmp_path: Path) -> None:
    """And only if the operator of the machine wants them shown."""
    key, secret = new_key("viewer", "read")
    keys = tmp_path / "keys"
    keys.write_text(key.line() + "\n")
    keys.chmod(0o600)
    reader = basic(key.key_id, secret)
    cases = [(False, BEARER, "•••• 23"), (True, BEARER, "+14155550123"), (True, reader, "•••• 23")]
    for show_numbers, authorization, expected in cases:
        async with (
            console(show_numbers=show_numbers, keys_path=str(keys)) as rig,
            watching(rig, authorization) as answer,
        ):
            assert (await until_event(answer, "now"))["calls"][0][1] == expected


async def test_a_stream_is_one_line_of_the_audit_log(tmp_path: Path) -> None:
    """Told when it begins, however many pictures follow."""
    path = tmp_path / "audit.jsonl"
    async with console(path) as rig:
        async with watching(rig) as answer:
            await until_event(answer, "now")
            await until_event(answer, "now")
            await until(lambda: len(entries(path)) == 1, "the line")
        assert (await rig.ask("GET", LIVE, authorization="Bearer no")).status == 401
    lines = [(each["action"], each["actor"], each["outcome"]) for each in entries(path)]
    assert lines == [
        ("console.watch", "api-token", "done"),
        ("console.watch", "unknown", "denied:20003"),
    ]


async def test_revoked_credentials_see_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream says why it ends."""
    monkeypatch.setattr(routes, "ADMIT_AGAIN_S", 0.5)
    key, secret = new_key("viewer", "read")
    keys = tmp_path / "keys"
    keys.write_text(key.line() + "\n")
    keys.chmod(0o600)
    viewer = basic(key.key_id, secret)
    async with console(keys_path=str(keys)) as rig, watching(rig, viewer) as answer:
        await until_event(answer, "now")
        keys.write_text("")
        refused: dict[str, Any] = await until_event(answer, "refused")
        assert refused["message"].startswith("Authenticate")
        assert await next_event(answer) is None


async def test_so_many_may_look() -> None:
    """The next one is told to come later; there is room again when somebody goes."""
    async with console() as rig:
        async with AsyncExitStack() as viewers:
            for _ in range(MAX_VIEWERS):
                stream = await viewers.enter_async_context(watching(rig))
                await until_event(stream, "now")
            answer = await rig.ask("GET", LIVE, authorization=BEARER)
            assert (answer.status, answer.json["code"]) == (503, 20503)
            assert str(MAX_VIEWERS) in answer.json["message"]
        await until(lambda: feeds[-1].viewers == 0, "they have gone")
        async with watching(rig) as stream:
            await until_event(stream, "now")


async def test_the_end_of_the_supervisor_ends_streams_at_once() -> None:
    """Well before the time that requests have at the end."""
    loop = asyncio.get_running_loop()
    async with console() as rig, watching(rig) as answer:
        await until_event(answer, "now")
        began_s = loop.time()
        await rig.api.close()
        while await next_event(answer) is not None:
            pass
        assert loop.time() - began_s < 1.5


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_requests_of_other_sites(site: str) -> None:
    """A browser that has remembered Basic credentials sends them along: refused all the same."""
    async with console() as rig:
        headers = {"Sec-Fetch-Site": site}
        answer = await rig.ask("POST", "/drain", authorization=BEARER, headers=headers)
        assert (answer.status, answer.json["code"]) == (403, 20403)
        assert (await rig.ask("GET", LIVE, headers=headers)).status == 403
        own = {"Sec-Fetch-Site": "same-origin"}
        assert (await rig.ask("POST", "/drain", authorization=BEARER, headers=own)).status == 200
        assert rig.draining


async def test_drain(tmp_path: Path) -> None:
    """For administrators; on and off, and what speaks against it is said."""
    path = tmp_path / "audit.jsonl"
    async with RestRig(path) as rig:
        assert (await rig.ask("POST", "/drain", authorization=basic())).status == 403
        assert not rig.draining
        answer = await rig.ask("POST", "/drain", authorization=BEARER)
        assert (answer.status, answer.json) == (200, {"draining": True})
        answer = await rig.ask("POST", "/drain", authorization=BEARER)
        assert (answer.status, answer.json["message"]) == (409, "it is so already")
        answer = await rig.ask("DELETE", "/drain", authorization=BEARER)
        assert (answer.status, answer.json) == (200, {"draining": False})
    told = [(each["action"], each["outcome"]) for each in entries(path)]
    assert told == [
        ("node.drain", "denied:20403"),
        ("node.drain", "done"),
        ("node.drain", "refused:409"),
        ("node.undrain", "done"),
    ]
