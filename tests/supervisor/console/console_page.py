"""The console in a real Chromium, with an eye on what a page must never do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from playwright.async_api import Browser, ConsoleMessage, Locator, Page, Request, expect

from tests import phi_watch

PATIENCE_MS: Final = 20_000
WATCH_POLICY: Final = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""
expect.set_options(timeout=PATIENCE_MS)


class ConsolePage:
    """A tab with the console of the supervisor at `base`.

    `errors` are what it logged as such, beside failed requests.
    """

    def __init__(self, page: Page, base: str) -> None:
        self.page = page
        self.base = base
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.rows = page.locator("#calls-body tr")
        page.on("console", self._note_message)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._note_request)
        page.set_default_timeout(PATIENCE_MS)

    async def open(self) -> None:
        """Load it; nobody is signed in."""
        await self.page.goto(f"{self.base}/")

    async def sign_in(self, secret: str, user: str = "") -> None:
        """Open it and send the form."""
        await self.open()
        await self.page.get_by_label("User").fill(user)
        await self.page.get_by_label("Secret or token").fill(secret)
        await self.page.get_by_role("button", name="Sign in").click()

    def row(self, sid: str) -> Locator:
        """A call's row."""
        return self.page.locator(f'#calls-body tr[data-sid="{sid}"]')

    def worker(self, number: int) -> Locator:
        """A worker's card."""
        return self.page.get_by_role("article", name=f"Worker {number}")

    def button(self, name: str) -> Locator:
        """A button of the question that is being asked."""
        return self.page.get_by_role("dialog").get_by_role("button", name=name)

    async def scrolls_sideways(self) -> bool:
        """Whether the page is wider than the window."""
        wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        return bool(await self.page.evaluate(wide))

    async def check(self) -> None:
        """Nothing happened that never may."""
        assert self.errors == []
        assert self.foreign == []
        assert await self.page.evaluate("window.violations") == []

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.errors.append(message.text)

    def _note_request(self, request: Request) -> None:
        if not request.url.startswith(f"{self.base}/"):
            self.foreign.append(request.url)


@asynccontextmanager
async def console(
    running: Browser, base: str, *, numbers: bool = False, **options: Any
) -> AsyncIterator[ConsolePage]:
    """A tab, in a context of its own, until the block ends; then it is checked.

    `numbers`: callers' data may be on the screen.
    """
    context = await running.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
    try:
        await context.add_init_script(WATCH_POLICY)
        opened = ConsolePage(await context.new_page(), base)
        yield opened
        await opened.check()
        if not numbers:
            phi_watch.look("the console's page", await opened.page.content())
    finally:
        await context.close()
