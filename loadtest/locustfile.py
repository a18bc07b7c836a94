"""Load tests with locust: a user is a caller. docs/load-tests.md says how to run it.

    locust -f loadtest/locustfile.py --host sip:agent@127.0.0.1:5060

Each call is one request of locust's, named "call: set-up": its time is that from the INVITE to the
answer, and it has failed if anything was wrong with the call; so the charts show calls and failed
calls per second and the times of set-up. The other figures have rows of their own, each with its
unit as type; they don't count into "Aggregated", as a mean of milliseconds and losses is none.
"""

import itertools
import logging
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from random import Random
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

import gevent
import msgspec
from gevent import GreenletExit
from locust import User, events, task
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner
from locust.stats import CSV_STATS_INTERVAL_SEC

from loadtest.load_client import PhoneClient, PhoneGoneError
from loadtest.load_figures import CallReport
from loadtest.load_options import add_options
from loadtest.load_plan import (
    Behaviour,
    BehaviourError,
    check_host,
    check_target,
    next_call,
    pause_s,
    read_behaviour,
)

CALLS: Final = ("call: set-up", "ms")
LAST_TABLE_S: Final = CSV_STATS_INTERVAL_SEC + 0.2
"""locust writes its tables so often, and not again at the end: the last calls would be missing."""
CANNOT_START: Final = 78
"""Exit code when a start would fail again in the same way (EX_CONFIG in sysexits.h)."""

log = logging.getLogger(__name__)


class CallFailedError(Exception):
    """What locust shows as the reason of a failure."""


class Callers:
    """What the callers of this process share: their phone, and how they behave."""

    def __init__(self, environment: Environment) -> None:
        options = vars(environment.parsed_options)
        self.environment = environment
        self.to, self.behaviour = _check(environment)
        self.numbers = itertools.count(1)
        self._seed = options["seed"]
        self._calls_file = options["calls_file"]
        self.phone = PhoneClient(options["phone_host"], self._phone_lost)

    def random(self) -> Random:
        """The chance of the next caller: the same for the same seed."""
        return Random(f"{self._seed} {next(self.numbers)}")

    def tell(self, report: CallReport) -> None:
        """Put a call's figures into locust's statistics, and into a file if one is wanted."""
        name, unit = CALLS
        failure = CallFailedError(report.failure) if report.failure else None
        self.environment.events.request.fire(
            request_type=unit,
            name=name,
            response_time=report.set_up_ms,
            response_length=0,
            exception=failure,
            context={},
        )
        for (name, unit), value in _figures(report):
            # Annotated as int, though locust itself logs fractions of milliseconds.
            self.environment.stats.get(name, unit).log(cast(int, value), 0)
        if self._calls_file:
            with Path(self._calls_file).open("ab") as file:
                file.write(msgspec.json.encode(report) + b"\n")

    def _phone_lost(self, gone: PhoneGoneError) -> None:
        log.error("%s", gone)
        self.environment.process_exit_code = 1
        if self.environment.runner is not None:
            self.environment.runner.quit()


def _check(environment: Environment) -> tuple[str, Behaviour]:
    """Whom to call and how, from the options. Raises BehaviourError."""
    options = vars(environment.parsed_options)
    to = str(environment.host or Caller.host)
    check_target(to)
    check_host(options["phone_host"])
    return to, read_behaviour(options)


def _figures(report: CallReport) -> list[tuple[tuple[str, str], float]]:
    """The rows of a call besides its set-up: (name, unit) and value."""
    single = {
        ("call: time to first audio", "ms"): report.first_audio_ms,
        ("call: length", "ms"): report.seconds * 1000 if report.set_up_ms is not None else None,
        ("audio: loss", "‰"): report.loss_permille,
        ("audio: jitter", "µs"): report.jitter_us,
        ("audio: longest gap", "ms"): report.longest_gap_ms,
        ("phone: latest packet", "ms"): report.send_late_max_ms,
    }
    several = {
        ("audio: round trip", "ms"): report.round_trips_ms,
        ("audio: silent after barge-in", "ms"): report.barge_ins_ms,
    }
    found = [(row, value) for row, value in single.items() if value is not None]
    return found + [(row, value) for row, values in several.items() for value in values]


class Caller(User):
    """A caller: one call after the other, as the options say."""

    host = "sip:agent@127.0.0.1:5060"

    def on_start(self) -> None:
        """Take a chance of one's own."""
        if self.environment not in _callers:
            raise GreenletExit  # the options are not allowed, which has been said
        self._callers = _callers[self.environment]
        self._random = self._callers.random()
        self._began_s = time.monotonic()

    def wait_time(self) -> float:
        """The pause before the next call, in seconds."""
        since_s = time.monotonic() - self._began_s
        return pause_s(self._callers.behaviour, since_s, self._random)

    @task
    def call(self) -> None:
        """Make a call, and wait for its end."""
        callers = self._callers
        self._began_s = time.monotonic()
        order = next_call(callers.behaviour, callers.to, next(callers.numbers), self._random)
        try:
            callers.tell(callers.phone.call(order))
        except PhoneGoneError as gone:
            raise StopUser from gone


_callers: WeakKeyDictionary[Environment, Callers] = WeakKeyDictionary()


@events.init_command_line_parser.add_listener
def _add_options(parser: ArgumentParser, **_: Any) -> None:
    add_options(parser)


@events.init.add_listener
def _check_options(environment: Environment, **_: Any) -> None:
    """End at once if the command line is wrong; a form is checked when its test starts."""
    if environment.parsed_options is None or not environment.parsed_options.headless:
        return
    try:
        _check(environment)
    except BehaviourError as error:
        log.error("%s", error)
        sys.exit(CANNOT_START)


@events.test_start.add_listener
def _begin(environment: Environment, **_: Any) -> None:
    """Start the phone: in each process that has callers, which a master has not."""
    if isinstance(environment.runner, MasterRunner):
        return
    try:
        _callers[environment] = Callers(environment)
    except BehaviourError as error:
        log.error("%s", error)


@events.test_stop.add_listener
def _end(environment: Environment, **_: Any) -> None:
    """End the phone; all callers have stopped."""
    if callers := _callers.pop(environment, None):
        callers.phone.close()


@events.quitting.add_listener
def _conclude(environment: Environment, **_: Any) -> None:
    """The exit code of a test: 1 if too many calls failed, or there were none."""
    if environment.process_exit_code is not None or isinstance(environment.runner, WorkerRunner):
        return
    gevent.sleep(LAST_TABLE_S)
    calls = environment.stats.get(*CALLS)
    allowed = vars(environment.parsed_options)["max_failed"]
    environment.process_exit_code = int(calls.fail_ratio > allowed or not calls.num_requests)
    log.info("%d calls, %d failed", calls.num_requests, calls.num_failures)
