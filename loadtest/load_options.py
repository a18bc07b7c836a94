"""The options of load tests, for locust's command line and its web page."""

from argparse import ArgumentParser
from typing import Final, get_args

import msgspec

from loadtest.load_plan import Behaviour, Length

HELP: Final = {
    "calls_per_minute": "calls of one caller per minute, at random times (0: one after the other)",
    "call_s": "length of calls in seconds, at the mean",
    "length": "how call lengths are distributed",
    "listen_s": "seconds from the answer to the caller's first word",
    "speech_s": "seconds that the caller speaks at a time",
    "silence_s": "seconds that the caller listens in between",
    "barge_in": "share of calls in which the caller speaks over the agent's answers (0 to 1)",
    "cancel": "share of calls that the caller gives up before the answer (0 to 1)",
    "drop": "share of calls that the caller hangs up right after the answer (0 to 1)",
    "patience_s": "seconds without an answer after which a call has failed",
}


def add_options(parser: ArgumentParser) -> None:
    """Add an option for each field of `Behaviour`, and those of the test as a whole.

    Not in a group: locust's page shows only what its parser was given itself.
    """
    for field in msgspec.structs.fields(Behaviour):
        choices = get_args(Length) if field.type is Length else None
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=str if choices else float,
            choices=choices,
            default=field.default,
            help=HELP[field.name],
        )
    parser.add_argument("--seed", default="1", help="the callers' chance is the same for the same")
    parser.add_argument("--phone-host", default="127.0.0.1", help="the phone's own IPv4 address")
    parser.add_argument("--calls-file", default="", help="write each call's figures there as JSON")
    parser.add_argument(
        "--max-failed",
        type=float,
        default=0.01,
        help="share of failed calls (0 to 1) up to which the test has passed",
    )
