"""Does a bot keep to Twilio's Media Streams protocol, and does this stack?

    python -m loadtest.conformance ws://host/path [--token AUTH_TOKEN]
    python -m loadtest.conformance --self

The first calls a bot as Twilio would, some 20 times in about a minute, and checks what it does. The
second does so with the sample voice agent, started for the purpose, and then checks this stack's
own side: a real worker between a scripted voice server and a scripted Asterisk.

The last line is `N passed, N failed`; the exit code is 0 if none failed, else 1. A check for which
the bot gives no occasion (it never sends a mark) is listed as n/a, and counts as neither.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from loadtest import conformance_bot, conformance_stack_orders, conformance_stack_stream
from loadtest.conformance_agent import AgentError, sample_agent
from loadtest.conformance_dial import Bot
from loadtest.conformance_examination import Examination
from loadtest.conformance_report import Outcome, run_checks, summary
from loadtest.conformance_stack import StackSide

MAX_SECONDS: Final = 3600.0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parse(arguments)
    try:
        outcomes = asyncio.run(_examine(options))
    except AgentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(summary(outcomes))
    return 1 if any(outcome.verdict == "failed" for outcome in outcomes) else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.conformance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", nargs="?", help="the bot's WebSocket: ws://... or wss://...")
    parser.add_argument("--self", action="store_true", help="check this stack and its voice agent")
    parser.add_argument("--token", default="", help="auth token that signs X-Twilio-Signature")
    parser.add_argument("--ca-file", default="", help="CA bundle for the bot's certificate")
    parser.add_argument("--patience", type=float, default=4.0, help="seconds to wait for an answer")
    parser.add_argument("--silence", type=float, default=10.0, help="seconds of the long silence")
    parser.add_argument("--utterance", type=float, default=1.5, help="seconds of what is said")
    options = parser.parse_args(arguments)
    if options.self == (options.url is not None):
        parser.error("one of a URL and --self is needed")
    if options.url is not None and not _usable(options.url):
        parser.error(f"url is {options.url!r}, allowed is ws://host[:port]/... or wss://...")
    for name in ("patience", "silence", "utterance"):
        if not 0 < (seconds := getattr(options, name)) <= MAX_SECONDS:
            parser.error(f"--{name} is {seconds}, allowed is above 0 up to {MAX_SECONDS:g}")
    if options.ca_file and not Path(options.ca_file).is_file():
        parser.error(f"--ca-file is {options.ca_file!r}, allowed is a file of certificates (PEM)")
    return options


def _usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


async def _examine(options: argparse.Namespace) -> list[Outcome]:
    settings = {
        "token": options.token,
        "ca_file": options.ca_file,
        "patience_s": options.patience,
        "silence_s": options.silence,
        "utterance_s": options.utterance,
    }
    if not options.self:
        return await _examine_bot(Bot(options.url, **settings))
    async with sample_agent() as url:
        outcomes = await _examine_bot(Bot(url, **settings))
    print("\nThis stack: a real worker, called by a scripted Asterisk")
    async with StackSide() as stack:
        checks = conformance_stack_stream.CHECKS + conformance_stack_orders.CHECKS
        return outcomes + await run_checks(checks, stack, _tell)


async def _examine_bot(bot: Bot) -> list[Outcome]:
    print(f"The bot at {bot.url}")
    return await run_checks(conformance_bot.CHECKS, Examination(bot), _tell)


def _tell(outcome: Outcome) -> None:
    print("\n".join(outcome.lines()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
