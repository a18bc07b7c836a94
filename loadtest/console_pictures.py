"""Pictures of the console with calls, of which some suffer: wide and narrow, dark and light.

The calls are real ones, on the real Asterisk where there can be one; those that suffer are called
through a bad network. They go to out/console-*.png.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from playwright.async_api import Browser, Page

from deploy.asterisk_rootfs import obstacle
from loadtest import audio
from loadtest.browser import NoBrowserError, browser
from loadtest.phone_plan import BadNetwork, CallPlan
from loadtest.sip_phone import SipPhone
from loadtest.stack import Stack, StackError

OUT: Final = Path("out")
SIZES: Final = {"wide": (1440, 900), "narrow": (360, 740)}
SCHEMES: Final = ("light", "dark")
CALLS: Final = 12
SPREAD_S: Final = 2.0
VISIT_S: Final = 4.0
"""Beside the calls that stay one comes so often that does not."""
SETTLED_S: Final = 20.0
"""Before the pictures: nobody comes or goes any more, and one caller falls silent."""


def main() -> int:
    """Make the pictures; returns 0 if there are all."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.console_pictures", description=__doc__
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="that calls go on before")
    parser.add_argument("--stand-in", action="store_true", help="not the real Asterisk")
    options = parser.parse_args()
    real = not options.stand_in and obstacle() is None
    try:
        asyncio.run(_make(real=real, seconds=60 * options.minutes))
    except (NoBrowserError, StackError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


async def _make(*, real: bool, seconds: float) -> None:
    with Stack(real=real) as stack:
        async with AsyncExitStack() as closing:
            phone = await closing.enter_async_context(SipPhone())
            running = await closing.enter_async_context(browser())
            for number in range(CALLS):
                network = _network(number, CALLS * SPREAD_S + seconds)
                phone.start(_plan(stack, number, network=network))
                await asyncio.sleep(SPREAD_S)
            for number in range(int((seconds - SETTLED_S) / VISIT_S)):
                phone.start(_plan(stack, CALLS + number, seconds=6.0 + number % 7))
                await asyncio.sleep(VISIT_S)
            await asyncio.sleep(SETTLED_S)
            OUT.mkdir(exist_ok=True)
            for name, size in SIZES.items():
                for scheme in SCHEMES:
                    path = OUT / f"console-{name}-{scheme}.png"
                    await _picture(running, stack, size, scheme, path)
                    print(path)


def _network(number: int, end_s: float) -> BadNetwork | None:
    """What a call's audio goes through; three have a bad one, one of which falls silent in time."""
    return {
        2: BadNetwork(jitter_ms=110),
        5: BadNetwork(loss_share=0.07),
        8: BadNetwork(silent_after=end_s - 8 * SPREAD_S - SETTLED_S / 2),
    }.get(number)


def _plan(
    stack: Stack, number: int, *, network: BadNetwork | None = None, seconds: float | None = None
) -> CallPlan:
    host = stack.sip_uri.partition("@")[2]
    return CallPlan(
        to=f"sip:+14155550{number % 3:03}@{host}",
        from_user=f"+1415555{1000 + 37 * number}",
        audio=audio.tone(300 + 20 * number, 1.0),
        audio_loop=True,
        seconds=seconds,
        network=network,
        keep_packets=False,
    )


async def _picture(
    running: Browser, stack: Stack, size: tuple[int, int], scheme: str, path: Path
) -> None:
    width, height = size
    context = await running.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        device_scale_factor=2 if width < 500 else 1,
    )
    try:
        page = await context.new_page()
        await sign_in(page, stack)
        await page.locator("#calls-body tr").nth(CALLS - 1).wait_for()
        await page.mouse.move(0, 0)  # it stood on a call
        await page.wait_for_timeout(2500)  # the second picture has the workers' CPU share
        await page.screenshot(path=path)
        if width < 500:
            await page.screenshot(path=path.with_stem(f"{path.stem}-whole"), full_page=True)
    finally:
        await context.close()


async def sign_in(page: Page, stack: Stack) -> None:
    """Open the console and sign in with the stack's token."""
    await page.goto(f"http://127.0.0.1:{stack.environment['HTTP_PORT']}/")
    await page.get_by_label("Secret or token").fill(stack.environment["API_TOKEN"])
    await page.get_by_role("button", name="Sign in").click()


if __name__ == "__main__":
    sys.exit(main())
