"""The console in a real browser, over calls on the real Asterisk."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Browser, expect

from loadtest.phone_plan import BadNetwork
from loadtest.sip_phone import SipPhone
from supervisor.api.access import new_key
from tests.supervisor.console.console_page import ConsolePage, console
from tests.supervisor.console.sse import until_event
from tests.supervisor.stack import API_TOKEN, RunningStack

pytestmark = [
    pytest.mark.asterisk,
    pytest.mark.chromium,
    pytest.mark.usefixtures("asterisk_rootfs"),
]

NUMBER = "+14155550187"
MASKED = "•••• 87"
ATTACK = "<img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A file of API keys with one that may read; its user and secret."""
    key, secret = new_key("viewer", "read")
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(key.line() + "\n")
    path.chmod(0o600)
    return path, key.key_id, secret


@pytest.fixture(scope="module")
def stack(
    asterisk_rootfs: Path, chromium_program: str, keys: tuple[Path, str, str]
) -> Iterator[RunningStack]:
    """A stack that all tests share which leave it as it was."""
    with RunningStack(real=True, settings={"API_KEYS_FILE": str(keys[0])}) as running:
        yield running
    assert "Traceback" not in running.supervisor.log


async def only_sid(page: ConsolePage) -> str:
    """The CallSid of the only call there is."""
    await expect(page.rows).to_have_count(1)
    sid = await page.rows.first.get_attribute("data-sid")
    assert sid is not None
    return sid


async def test_a_call_appears_and_is_hung_up(stack: RunningStack, running: Browser) -> None:
    """By a button, after a question; the caller gets a BYE, and the row goes."""
    async with SipPhone() as phone, console(running, stack.http_base) as page:
        await page.sign_in(API_TOKEN)
        await expect(page.page.get_by_text("No calls in progress.")).to_be_visible()
        call = phone.start(stack.plan(from_user=NUMBER))
        assert await call.answered()
        row = page.row(await only_sid(page))
        await expect(row).to_contain_text(MASKED)
        await expect(row.locator(".c-why")).to_have_text("up")
        await expect(row.locator(".c-mos")).to_have_text("4.4")
        await expect(row.locator(".c-stream")).to_have_text("up")
        await row.get_by_role("button", name="Hang up").click()
        await page.button("Cancel").click()
        assert not call.record.done()
        await row.get_by_role("button", name="Hang up").click()
        await page.button("Hang up").click()
        assert (await call.record).ended_by == "callee"
        await expect(page.rows).to_have_count(0)
        await expect(page.page.get_by_role("status")).to_contain_text("is being ended")
    await stack.until_idle()


async def test_by_keyboard_only(stack: RunningStack, running: Browser) -> None:
    """Sign in, filter, go through the calls, hang one up, read the list of keys."""
    async with SipPhone() as phone, console(running, stack.http_base) as page:
        keyboard = page.page.keyboard
        await page.open()
        await keyboard.press("Tab")
        await keyboard.type(API_TOKEN)
        await keyboard.press("Enter")
        calls = [phone.start(stack.plan(from_user=f"+1415555018{n}")) for n in range(3)]
        for call in calls:
            assert await call.answered()
        await expect(page.rows).to_have_count(3)
        await keyboard.press("/")
        await keyboard.type("• 81")  # "81" alone may be in a CallSid
        await expect(page.rows).to_have_count(1)
        await keyboard.press("Escape")
        await expect(page.rows.first).to_be_focused()
        await keyboard.press("h")
        await expect(page.button("Cancel")).to_be_focused()
        await keyboard.press("Tab")
        await keyboard.press("Enter")
        assert (await calls[1].record).ended_by == "callee"
        await expect(page.rows).to_have_count(0)
        await keyboard.press("/")
        await keyboard.press("Control+A")
        await keyboard.press("Delete")
        await expect(page.rows).to_have_count(2)
        await keyboard.press("ArrowDown")
        await expect(page.rows.nth(0)).to_be_focused()
        await keyboard.press("j")
        await expect(page.rows.nth(1)).to_be_focused()
        await keyboard.press("ArrowUp")
        await expect(page.rows.nth(0)).to_be_focused()
        await keyboard.press("Tab")
        await expect(page.rows.nth(0).get_by_role("button")).to_be_focused()
        await keyboard.press("?")
        await expect(page.page.get_by_role("dialog")).to_contain_text("hang up the call")
        await keyboard.press("Escape")
        await expect(page.page.get_by_role("dialog")).to_have_count(0)
    await stack.until_idle()


async def test_a_call_that_suffers_comes_first(stack: RunningStack, running: Browser) -> None:
    """With the reason in words, in the headline, and read out; filters show it alone."""
    async with SipPhone() as phone, console(running, stack.http_base) as page:
        await page.sign_in(API_TOKEN)
        phone.start(stack.plan(from_user="+14155550101"))
        await expect(page.rows).to_have_count(1)
        await expect(page.page.get_by_role("heading", level=2).first).to_have_text(
            "1 call, all well"
        )
        bad = phone.start(stack.plan(from_user=NUMBER, network=BadNetwork(silent_after=1)))
        assert await bad.answered()
        await expect(page.rows.nth(0)).to_contain_text(MASKED)
        reason = page.rows.nth(0).locator(".c-why")
        await expect(reason).to_contain_text(re.compile(r"caller not heard for \d+ s"))
        await expect(page.rows.nth(0)).to_have_attribute("data-level", "suffers")
        await expect(page.page.locator("#verdict")).to_have_text("1 of 2 calls suffers")
        await expect(page.page).to_have_title("(1) Console")
        await expect(page.page.get_by_role("log")).to_contain_text("suffers: caller not heard")
        await page.page.get_by_role("button", name="Suffering only").click()
        await expect(page.rows).to_have_count(1)
        bad.hang_up()
        await bad.record
        await expect(page.page.get_by_text("No call fits the filter.")).to_be_visible()
    await stack.until_idle()


async def test_a_worker_is_restarted_and_the_call_goes_on(
    stack: RunningStack, running: Browser
) -> None:
    """By its button; another process, and the same call with audio."""
    async with stack.calling() as call, console(running, stack.http_base) as page:
        await page.sign_in(API_TOKEN)
        sid = await only_sid(page)
        worker = int(await page.row(sid).locator(".c-worker").inner_text())
        before = stack.workers()[worker]["pid"]
        await page.worker(worker).get_by_role("button", name="Restart").click()
        await page.button("Restart").click()
        await expect(page.page.get_by_role("status")).to_have_text(
            f"Worker {worker} has been replaced."
        )
        assert stack.workers()[worker]["pid"] != before
        await stack.until_audio(call)
        assert await only_sid(page) == sid
    await stack.until_idle()


async def test_a_worker_that_hangs_suffers(stack: RunningStack, running: Browser) -> None:
    """SIGSTOP: shown with a reason, and as one that has died when another serves its call."""
    async with stack.calling() as call, console(running, stack.http_base) as page:
        await page.sign_in(API_TOKEN)
        sid = await only_sid(page)
        worker = int(await page.row(sid).locator(".c-worker").inner_text())
        stack.kill_worker(worker, signal.SIGSTOP)
        card = page.worker(worker)
        await expect(card).to_have_attribute("data-level", re.compile("suffers|watch"))
        await expect(card.locator(".state")).to_contain_text(re.compile(r"died \d+ s ago"))
        await stack.until_audio(call)
        await expect(page.row(sid)).to_have_attribute("data-level", "fine")
    await stack.until_idle()


async def test_the_page_finds_a_new_supervisor(stack: RunningStack, running: Browser) -> None:
    """It says that what it shows is old, and goes on when there is one; the call is still there."""
    async with stack.calling() as call, console(running, stack.http_base) as page:
        await page.sign_in(API_TOKEN)
        sid = await only_sid(page)
        stack.supervisor.kill()
        await expect(page.page.get_by_role("alert").first).to_contain_text("What you see is")
        await expect(page.row(sid)).to_be_visible()
        await asyncio.to_thread(stack.start_supervisor)
        await expect(page.page.locator("#stale")).to_be_hidden()
        assert await only_sid(page) == sid
        await stack.until_audio(call)
    await stack.until_idle()


async def test_wrong_credentials(stack: RunningStack, running: Browser) -> None:
    """Back to the form, with the reason; the browser itself asks for nothing."""
    async with console(running, stack.http_base) as page:
        await page.sign_in("a-token-that-is-wrong")
        await expect(page.page.get_by_role("alert").first).to_contain_text("Authenticate")
        await expect(page.page.get_by_label("Secret or token")).to_be_focused()
        await page.sign_in(API_TOKEN)
        await expect(page.page.locator("#status")).to_have_text("in service")
        assert await page.page.evaluate("Object.keys(localStorage).length") == 0
        assert await page.page.context.cookies() == []
        await page.page.reload()
        await expect(page.page.locator("#status")).to_have_text("in service")
        await page.page.get_by_role("button", name="Sign out").click()
        await expect(page.page.get_by_label("Secret or token")).to_be_visible()
        assert await page.page.evaluate("Object.keys(sessionStorage).length") == 0


async def test_who_only_reads_has_no_buttons(
    stack: RunningStack, running: Browser, keys: tuple[Path, str, str]
) -> None:
    """Nor do keys do anything for them."""
    async with stack.calling() as call, console(running, stack.http_base) as page:
        await page.sign_in(keys[2], user=keys[1])
        await only_sid(page)
        await expect(page.page.locator("#me")).to_have_text("viewer, read")
        for name in ("Hang up", "Restart", "Drain"):
            await expect(page.page.get_by_role("button", name=name)).to_have_count(0)
        await page.page.keyboard.press("j")
        await page.page.keyboard.press("h")
        await expect(page.page.get_by_role("dialog")).to_have_count(0)
        assert not call.record.done()
    await stack.until_idle()


async def test_drain_and_back(stack: RunningStack, running: Browser) -> None:
    """No new calls, those that are up go on; and then there are new ones again."""
    async with stack.calling() as call, console(running, stack.http_base) as page:
        await page.sign_in(API_TOKEN)
        await page.page.get_by_role("button", name="Drain").click()
        await page.button("Drain").click()
        await expect(page.page.locator("#status")).to_have_text("draining")
        assert stack.health()["status"] == "draining"
        await stack.check_refused()
        await stack.until_audio(call)
        await page.page.get_by_role("button", name="Take calls again").click()
        await page.button("Take calls again").click()
        await expect(page.page.locator("#status")).to_have_text("in service")
        async with stack.calling():
            await expect(page.rows).to_have_count(2)
    await stack.until_idle()


async def test_what_is_refused_is_said(stack: RunningStack, running: Browser) -> None:
    """In the dialog, which stays."""
    async with stack.calling(), console(running, stack.http_base) as page:
        await page.sign_in(API_TOKEN)
        sid = await only_sid(page)
        await page.page.route("**/Calls/*.json", lambda route: route.abort())
        await page.row(sid).get_by_role("button", name="Hang up").click()
        await page.button("Hang up").click()
        await expect(page.page.locator("#confirm-error")).not_to_be_empty()
        await expect(page.button("Cancel")).to_be_focused()
        await page.page.keyboard.press("Escape")
        await expect(page.row(sid).get_by_role("button", name="Hang up")).to_be_focused()
    await stack.until_idle()


async def test_masked_numbers_are_nowhere(stack: RunningStack, running: Browser) -> None:
    """Neither in the page nor in what is sent to it."""
    async with stack.calling(from_user=NUMBER), console(running, stack.http_base) as page:
        await page.sign_in(API_TOKEN)
        await expect(page.row(await only_sid(page))).to_contain_text(MASKED)
        hidden = NUMBER[4:]
        assert hidden not in await page.page.content()
        headers = {"Authorization": f"Bearer {API_TOKEN}"}
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{page.base}/console/live", headers=headers) as answer,
        ):
            picture = await until_event(answer, "now")
        assert MASKED in str(picture)
        assert hidden not in str(picture)
    await stack.until_idle()


async def test_a_callers_name_is_text(asterisk_rootfs: Path, running: Browser) -> None:
    """Shown as it came, where the operator wants names shown, and run by nobody."""
    user = "".join(f"%{byte:02X}" for byte in ATTACK.encode())
    with RunningStack(real=True, settings={"CONSOLE_SHOW_NUMBERS": "true"}) as stack:
        async with (
            stack.calling(from_user=user),
            console(running, stack.http_base, numbers=True) as page,
        ):
            await page.sign_in(API_TOKEN)
            row = page.row(await only_sid(page))
            await expect(row.locator(".c-who")).to_contain_text(ATTACK)
            await row.get_by_role("button", name="Hang up").click()
            await expect(page.page.locator("#confirm-text")).to_contain_text(ATTACK)
            assert await page.page.locator("img").count() == 0
            assert await page.page.title() != "owned"


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", [360, 1440])
async def test_it_fits_phones_and_screens(
    stack: RunningStack, running: Browser, width: int, scheme: str
) -> None:
    """No sideways scrolling; the theme follows the system, until one is chosen."""
    size = {"width": width, "height": 740}
    async with (
        stack.calling(from_user=NUMBER),
        console(running, stack.http_base, viewport=size, color_scheme=scheme) as page,
    ):
        await page.sign_in(API_TOKEN)
        await expect(page.row(await only_sid(page))).to_contain_text(MASKED)
        assert not await page.scrolls_sideways()
        root = page.page.locator("html")
        await expect(root).to_have_attribute("data-theme", scheme)
        await page.page.get_by_role("button", name="Theme").click()
        other = "light" if scheme == "dark" else "dark"
        await expect(root).to_have_attribute("data-theme", other)
        await page.page.reload()
        await expect(root).to_have_attribute("data-theme", other)
        await expect(page.rows).to_have_count(1)
        await expect(page.page.locator("canvas")).to_have_count(5)
    await stack.until_idle()
