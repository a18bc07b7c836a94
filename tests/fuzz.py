"""`python -m tests.fuzz --seconds 60`: feeds everything that reads bytes of others.

Each target gets an equal share of the time. Prints the number of inputs per target and
`N passed, N failed`; exits with 1 if one failed, with its smallest failing input above.
"""

import argparse
import logging
import random
import sys
import time
import traceback
from collections.abc import Iterator

import structlog
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.shim.foreign_bytes import TARGETS, Target

BATCH = 250
MUTANTS_OF_EACH = 40


def main() -> int:
    """Run all targets; returns the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for all targets together")
    parser.add_argument("--seed", type=int, help="begin with this one, to repeat a run")
    arguments = parser.parse_args()
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=silent)  # bad input is logged, which is not the point here
    first_seed = time.time_ns() if arguments.seed is None else arguments.seed
    failed = 0
    for target in TARGETS:
        count, error = fuzz(target, arguments.seconds / len(TARGETS), first_seed)
        if error:
            sys.stderr.write(error)
            failed += 1
        verdict = "failed" if error else "passed"
        sys.stdout.write(f"{target.name:32} {count:>10,} inputs  {verdict}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(TARGETS) - failed} passed, {failed} failed\n")
    return 1 if failed else 0


class Feeder:
    """Feeds one target, and keeps the inputs of the last batch."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.count = 0
        self.inputs: list[object] = []

    def feed(self, value: object) -> None:
        """Check one input."""
        self.count += 1
        self.inputs.append(value)
        self.target.check(value)

    def batch(self, number: int) -> None:
        """Feed generated inputs, and then damaged copies of them."""

        @seed(number)
        @settings(
            max_examples=BATCH,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(self.target.inputs)
        def check(value: object) -> None:
            self.feed(value)

        self.inputs = []
        check()
        for mutant in mutants(self.inputs, random.Random(number)):
            self.inputs = [mutant]
            self.feed(mutant)


def fuzz(target: Target, seconds: float, first_seed: int) -> tuple[int, str]:
    """Feed one target for some time; returns the number of inputs, and the first error's text."""
    feeder = Feeder(target)
    number = first_seed
    end = time.monotonic() + seconds
    while time.monotonic() < end or not feeder.count:
        try:
            feeder.batch(number)
        except Exception:  # noqa: BLE001  # whatever a check raises is its verdict
            last = f"seed {number}, last input {feeder.inputs[-1]!r}"
            return feeder.count, f"{target.name}, {last}:\n{traceback.format_exc()}"
        number += 1
    return feeder.count, ""


def mutants(samples: list[object], random_: random.Random) -> Iterator[bytes]:
    """Damaged copies of the samples, if those are bytes: cut, overwritten, doubled, joined."""
    texts = [sample for sample in samples if isinstance(sample, bytes) and sample]
    for text in texts * MUTANTS_OF_EACH:
        at = random_.randrange(len(text))
        match random_.randrange(5):
            case 0:
                yield text[:at]
            case 1:
                yield text[at:]
            case 2:
                yield text[:at] + random_.randbytes(random_.randrange(1, 5)) + text[at + 1 :]
            case 3:
                yield text[:at] + bytes([text[at] ^ 1 << random_.randrange(8)]) + text[at + 1 :]
            case _:
                yield text[:at] + random_.choice(texts)[at:]


if __name__ == "__main__":
    sys.exit(main())
