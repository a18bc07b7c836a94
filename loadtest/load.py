"""`python -m loadtest.load`: a load test of the whole system on this machine, by locust.

    python -m loadtest.load [--real] [--callers 200] [--seconds 60] [options of locust's...]

Starts Asterisk's stand-in (with --real the real Asterisk), the supervisor with its workers and the
voice agent, and has callers call them. locust's report goes to out/load.html, its tables to
out/load_*.csv, each call's figures to out/load_calls.jsonl, and a picture of them to out/load.png.
With --web locust waits for you on a web page instead. The exit code is locust's: 1 if more calls
failed than --max-failed allows.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from loadtest.load_picture import draw, read_calls
from loadtest.stack import Stack, StackError

LOCUSTFILE: Final = Path(__file__).with_name("locustfile.py")
RAMP_UP_S: Final = 20.0
LAST_CALLS_S: Final = 90
"""Calls that are up when the time is over are talked to their end, for so long at most."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options, for_locust = parser().parse_known_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    calls_file = options.out / "load_calls.jsonl"
    calls_file.unlink(missing_ok=True)
    try:
        with Stack(real=options.real) as stack:
            command = [*locust_command(options, stack.sip_uri, calls_file), *for_locust]
            code = subprocess.run(command, check=False).returncode
    except StackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if calls_file.exists():
        draw(read_calls(calls_file), options.out / "load.png")
        print(f"report: {options.out / 'load.html'}, picture: {options.out / 'load.png'}")
    return code


def locust_command(options: argparse.Namespace, sip_uri: str, calls_file: Path) -> list[str]:
    """What to run: locust, with its report and its tables, headless unless asked for the page."""
    callers = options.callers
    command = [sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE)]
    command += ["--host", sip_uri, "--users", str(callers)]
    command += ["--spawn-rate", str(options.per_s or max(1.0, callers / RAMP_UP_S))]
    command += ["--stop-timeout", str(LAST_CALLS_S), "--calls-file", str(calls_file)]
    if options.web:
        return command
    command += ["--headless", "--only-summary", "--run-time", f"{options.seconds}s"]
    return [
        *command,
        *("--html", str(options.out / "load.html")),
        *("--csv", str(options.out / "load"), "--csv-full-history"),
    ]


def parser() -> argparse.ArgumentParser:
    """The options of this command; those that it doesn't know are locust's."""
    options = argparse.ArgumentParser(
        prog="python -m loadtest.load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    options.add_argument("--real", action="store_true", help="call the real Asterisk")
    options.add_argument("--callers", type=int, default=200)
    options.add_argument("--seconds", type=int, default=60, help="while new calls are placed")
    options.add_argument("--per-s", type=float, help="new callers per second until all are there")
    options.add_argument("--web", action="store_true", help="locust's web page instead")
    options.add_argument("--out", type=Path, default=Path("out"), help="folder for the report")
    return options


if __name__ == "__main__":
    sys.exit(main())
