"""What does recording cost a worker, and does it touch the pacing?

    python -m loadtest.recording_cost --calls 100 --seconds 30 [--rounds 1]
                                      [--directory DIR] [--json FILE]

In one run, in turn: our worker with its real supervisor and so many calls that talk all the time,
as `loadtest.bench` measures it; then the same with all calls recorded, sealed and written to a
directory. With more rounds both take turns, and each one's median round counts. The worker's
CPU time and that of its recorder, which seals and writes on other CPUs, are told apart. At the end
the recordings of the last round are opened, and what is missing in them is counted.

The exit code is 1 when the load generator fell behind, or not everything was recorded.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from loadtest.bench import add_run_options, leave_to_workers, measure, run_ranges, run_to_end
from loadtest.bench_figures import ROWS, Measured, Run, median
from loadtest.bench_programs import BenchError
from loadtest.command_line import check_ranges, write_json
from shim import recording_key_file
from supervisor.recordings import store as recording_store
from supervisor.recordings.keyring import KeyRing
from supervisor.recordings.store import OpenRecording

KEY_BYTES: Final = 32


class Recorded(msgspec.Struct, frozen=True):
    """What was recorded in a round: all calls together, and what is missing on agents' tracks."""

    recordings: int
    complete: int
    seconds: float
    gaps: int
    gap_ms: int
    size_bytes: int


class Cost(msgspec.Struct, frozen=True):
    """The figures of a run."""

    calls: int
    seconds: float
    without: Measured
    recording: Measured
    recorded: Recorded

    @property
    def ok(self) -> bool:
        """Whether the figures count, and all calls were recorded without a gap."""
        fell_behind = self.without.load.fell_behind or self.recording.load.fell_behind
        recorded = self.recorded
        whole = recorded.complete == recorded.recordings == self.calls and not recorded.gaps
        return whole and not fell_behind

    def lines(self) -> list[str]:
        """For people."""
        more = self.recording.us_per_frame_pair / self.without.us_per_frame_pair - 1
        recorded = self.recorded
        return [
            f"{self.calls} calls for {self.seconds:g} s",
            f"{'':<30}{'without':>12}{'recording':>12}",
            *(
                f"{label:<30}{show(self.without):>12}{show(self.recording):>12}"
                for label, show in ROWS
            ),
            f"recording takes {more:.1%} more CPU of the worker, and "
            f"{self.recording.helpers_us_per_frame_pair:.1f} us per frame pair of the recorder",
            f"recorded: {recorded.recordings} calls, {recorded.complete} of them complete, "
            f"{recorded.seconds:.0f} s, {recorded.size_bytes / 1e6:.1f} MB, "
            f"{recorded.gaps} gaps ({recorded.gap_ms} ms)",
            *([] if self.ok else ["NOT VALID: late load generator, or incomplete recordings"]),
        ]


async def cost(run: Run, cpus: Sequence[int], base: Path | None) -> Cost:
    """Measure without and with recording; raises BenchError."""
    without, recording = [], []
    for _ in range(run.rounds):
        without.append(await measure("ours", run, cpus))
        with tempfile.TemporaryDirectory(prefix="ots-recordings-", dir=base) as path:
            settings = _settings(Path(path))
            recording.append(await measure("ours", run, cpus, settings))
            recorded = _look(settings)
    return Cost(run.calls, run.seconds, median(without), median(recording), recorded)


def _settings(directory: Path) -> dict[str, str]:
    key_file = directory / "key"
    key_file.touch(mode=0o600)
    key_file.write_bytes(b64encode(os.urandom(KEY_BYTES)))
    return {
        "RECORD_CALLS": "true",
        "RECORDING_DIR": str(directory),
        "RECORDING_KEY_FILE": str(key_file),
    }


def _look(settings: dict[str, str]) -> Recorded:
    ring = KeyRing(recording_key_file.read(settings["RECORDING_KEY_FILE"]))
    found = recording_store.find(Path(settings["RECORDING_DIR"]))
    seen = [OpenRecording(each, ring.data_key).survey() for each in found]
    return Recorded(
        recordings=len(found),
        complete=sum(each.complete for each in seen),
        seconds=sum(each.seconds for each in seen),
        gaps=sum(each.gaps for each in seen),
        gap_ms=sum(each.gap_ms for each in seen),
        size_bytes=sum(each.size_bytes for each in found),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.recording_cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run_options(parser, calls=100)
    parser.add_argument("--directory", type=Path, help="where to record (default: a temporary one)")
    options = parser.parse_args(arguments)
    check_ranges(parser, *run_ranges(options))
    run = Run(
        calls=options.calls,
        seconds=options.seconds,
        warm_up_s=options.warm_up,
        rounds=options.rounds,
        first_port=options.port,
    )
    try:
        found = run_to_end(cost(run, leave_to_workers(run.workers), options.directory))
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(found.lines()))
    if options.json is not None:
        write_json(options.json, found)
    return 0 if found.ok else 1


if __name__ == "__main__":
    sys.exit(main())
