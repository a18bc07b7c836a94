"""The page in a real browser, over pictures that are made up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from msgspec.structs import replace
from playwright.async_api import Browser, Page, expect

from shim.control import CallQuality
from supervisor.console.feed import Feed
from supervisor.console.routes import ConsoleRoutes
from supervisor.console.seen import CallSeen, Recent, Seen
from tests.supervisor.console.console_page import console
from tests.supervisor.console.make import call, figures, node, seen, stats, worker
from tests.supervisor.rest_rig import API_TOKEN, RestRig

pytestmark = pytest.mark.chromium

SCRIPT = "<script>document.title='owned'</script><img src=x onerror=document.title='owned'>"


class Shown:
    """What the page is shown; change `seen` at will."""

    def __init__(self) -> None:
        self.seen = seen()
        self.base = ""


@asynccontextmanager
async def showing(*calls: CallSeen, numbers: bool = False) -> AsyncIterator[Shown]:
    """A console over these calls."""
    shown = Shown()
    shown.seen = seen(*calls)
    feed = Feed(lambda: shown.seen)
    running = asyncio.create_task(feed.run())
    async with RestRig(console=ConsoleRoutes(feed, show_numbers=numbers)) as rig:
        shown.base = rig.base
        yield shown
    await running


def many(number: int) -> list[CallSeen]:
    """So many calls, all well but the last but one."""
    calls = [call(sid=f"CA{n:032x}", caller=f"+1415555{n:04}") for n in range(number)]
    bad = figures(jitter_now_ms=48.0, quality=CallQuality(3.1, 30.0, 90, 400))
    calls[-2] = replace(calls[-2], figures=bad)
    return calls


async def test_a_thousand_calls(running: Browser) -> None:
    """The worst hundred are shown, and any other can be found."""
    async with (
        showing(*many(1000), numbers=True) as shown,
        console(running, shown.base, numbers=True) as page,
    ):
        await page.sign_in(API_TOKEN)
        await expect(page.rows).to_have_count(100)
        await expect(page.rows.first).to_contain_text("+14155550998")
        await expect(page.rows.first.locator(".c-why")).to_have_text("jitter 48 ms, MOS 3.1")
        count = page.page.locator("#calls-count")
        await expect(count).to_have_text("the first 100 of 1,000; filter to see others")
        await page.page.get_by_label("Filter calls").fill("5550777")
        await expect(page.rows).to_have_count(1)
        await expect(count).to_have_text("1 of 1,000")
        await page.page.get_by_label("Filter calls").fill("jitter")
        await expect(page.rows).to_have_count(1)


async def test_sorting(running: Browser) -> None:
    """Rising, falling, and back to the worst first; what is not known comes last."""
    calls = [
        call(sid="CA1", age_s=5.0, figures=figures(jitter_now_ms=3.0)),
        call(sid="CA2", age_s=900.0, figures=figures(jitter_now_ms=7.0)),
        call(sid="CA3", age_s=60.0, figures=figures(jitter_now_ms=25.0)),
    ]
    async with showing(*calls) as shown, console(running, shown.base) as page:
        await page.sign_in(API_TOKEN)
        header = page.page.get_by_role("columnheader", name="Time")
        for expected, sort in (
            (["CA3", "CA2", "CA1"], None),
            (["CA1", "CA3", "CA2"], "ascending"),
            (["CA2", "CA3", "CA1"], "descending"),
            (["CA3", "CA2", "CA1"], None),
        ):
            for index, sid in enumerate(expected):
                await expect(page.rows.nth(index)).to_have_attribute("data-sid", sid)
            assert await header.get_attribute("aria-sort") == sort
            await header.get_by_role("button").click()


async def test_names_of_strangers_are_text(running: Browser) -> None:
    """Wherever they are shown, and whatever reason Asterisk gives."""
    bad = call(caller=SCRIPT[:60], called=SCRIPT[-60:])
    async with (
        showing(bad, numbers=True) as shown,
        console(running, shown.base, numbers=True) as page,
    ):
        shown.seen = replace(shown.seen, node=node(ari_connected=False, ari_reason=SCRIPT))
        await page.sign_in(API_TOKEN)
        await expect(page.rows.first.locator(".c-who")).to_contain_text(SCRIPT[:60])
        await expect(page.page.locator("#because")).to_contain_text(SCRIPT)
        assert await page.page.locator("img").count() == 0
        assert await page.page.title() == "Console"


async def test_the_focus_stays_on_its_call(running: Browser) -> None:
    """Also when another call becomes the first, and when it is over."""
    first, second = call(sid="CA1"), call(sid="CA2", age_s=1.0)
    async with showing(first, second) as shown, console(running, shown.base) as page:
        await page.sign_in(API_TOKEN)
        await page.page.keyboard.press("j")
        await expect(page.row("CA1")).to_be_focused()
        lost = figures(stream_open=False, stats=stats(reconnects=1))
        shown.seen = seen(first, replace(second, figures=lost))
        await expect(page.rows.first).to_have_attribute("data-sid", "CA2")
        await expect(page.row("CA1")).to_be_focused()
        shown.seen = seen(second)
        await expect(page.row("CA2")).to_be_focused()


async def test_who_sees_numbers_is_signed_out_when_idle(running: Browser) -> None:
    """After 15 minutes without a key or a click; who sees none stays."""
    for numbers in (True, False):
        async with (
            showing(call(), numbers=numbers) as shown,
            console(running, shown.base, numbers=numbers) as page,
        ):
            await page.page.clock.install()
            await page.sign_in(API_TOKEN)
            await expect(page.rows).to_have_count(1)
            await page.page.clock.fast_forward("14:00")
            await page.page.keyboard.press("j")
            await page.page.clock.fast_forward("14:00")
            await expect(page.rows).to_have_count(1)
            await page.page.clock.fast_forward("02:00")
            form = page.page.get_by_label("Secret or token")
            if numbers:
                await expect(form).to_be_visible()
                await expect(page.page.locator("#sign-in-why")).to_contain_text("15 minutes")
                await expect(page.rows).to_have_count(0)
            else:
                await expect(page.page.locator("#stale")).to_be_hidden()
                await expect(page.rows).to_have_count(1)


async def violations(page: Page) -> list[str]:
    """What axe finds: the rule, and where."""
    found: dict[str, Any] = (await Axe().run(page)).response
    return [
        f"{each['id']}: {spot['html'][:200]}"
        for each in found["violations"]
        for spot in each["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 360])
async def test_accessibility(running: Browser, width: int, scheme: str) -> None:
    """axe finds nothing: in the form, in the page with calls that suffer, and in a dialog."""
    size = {"width": width, "height": 800}
    async with (
        showing(*many(6), call(sid="CA7", recent=Recent(980, 20))) as shown,
        console(running, shown.base, viewport=size, color_scheme=scheme) as page,
    ):
        shown.seen = troubled(shown.seen)
        await page.open()
        assert await violations(page.page) == []
        await page.sign_in(API_TOKEN)
        await expect(page.rows).to_have_count(7)
        assert await violations(page.page) == []
        await page.page.get_by_role("button", name="Restart worker 0").click()
        assert await violations(page.page) == []


def troubled(moment: Seen) -> Seen:
    """A worker that is down beside one that is fine."""
    down = worker(worker=1, up=False, state="parked", heartbeat_s=None, deaths=6, died_s=3.0)
    return replace(moment, workers=[worker(), down])
