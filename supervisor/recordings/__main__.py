"""`python -m supervisor.recordings`: upload recordings that are over, until SIGTERM.

    python -m supervisor.recordings                    upload; or, without a bucket, keep for a time
    python -m supervisor.recordings list               what is in RECORDING_DIR
    python -m supervisor.recordings export NAME FILE   decrypt one to a WAV; NAME may be a CallSid

It is a process of its own, so that nothing of it takes time from calls, and may be killed at any
time: what it has begun it goes on with. Settings come from the environment or .env, those of AWS
from the environment as boto3's documentation says.
"""

import argparse
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import boto3
import dotenv
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from shim import core_dumps, environment, log_setup, recording_key_file
from shim.environment import ConfigError
from shim.recording_format import RecordingFileError
from shim.recording_keys import RecordingKeyError
from supervisor.recordings import store as recording_store
from supervisor.recordings.config import RecordingsConfig, check
from supervisor.recordings.keyring import KeyRing
from supervisor.recordings.store import OpenRecording, StoredRecording
from supervisor.recordings.upload import Target
from supervisor.recordings.uploader import DAY_S, S3, Rules, Uploader

log = structlog.get_logger()

EXIT_CONFIG: Final = 78
"""EX_CONFIG of sysexits.h: starting again won't help."""
S3_CLIENT: Final = Config(
    connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 4}
)


def main() -> int:
    """Run the command; returns the process's exit code."""
    options = _arguments()
    log_setup.configure("text", "INFO", process="recordings")
    from_file = {name: value or "" for name, value in dotenv.dotenv_values(".env").items()}
    try:
        config = environment.read(RecordingsConfig, {**from_file, **os.environ})
        check(config)
        if not config.core_dumps:
            core_dumps.forbid()
        keys = (
            recording_key_file.read(config.recording_key_file) if config.recording_key_file else ()
        )
        ring = KeyRing(keys)
        log_setup.configure(config.log_format, config.log_level, process="recordings")
        if options.command == "list":
            _list(config)
        elif options.command == "export":
            _export(config, ring, options.name, options.file)
        else:
            _run(config, ring)
    except ConfigError as error:
        log.error("cannot_start", reason=str(error))
        return EXIT_CONFIG
    except (OSError, RecordingFileError, RecordingKeyError, BotoCoreError, ClientError) as error:
        log.error("recordings_failed", reason=str(error))
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m supervisor.recordings",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("list", help="what is in RECORDING_DIR")
    export = commands.add_parser("export", help="decrypt a recording to a WAV")
    export.add_argument("name", help="as `list` names it, or a CallSid")
    export.add_argument("file", type=Path, help="must not be there yet")
    return parser.parse_args()


def _run(config: RecordingsConfig, ring: KeyRing) -> None:
    """Upload until SIGTERM or SIGINT; a second one doesn't wait for the recording at hand."""
    directory = Path(config.recording_dir)
    rules = Rules(config.recording_settle_seconds, config.recording_keep_days * DAY_S)
    uploader = Uploader(directory, ring.data_key, _s3(config), rules)

    def on_signal(number: int, _: object) -> None:
        if uploader.stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        uploader.stop.set()

    with _alone(directory):
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, on_signal)
        log.info("recordings_started", bucket=config.recording_bucket or None)
        uploader.run()
        log.info("recordings_stopped")


def _s3(config: RecordingsConfig) -> S3:
    """Client and target, None without a bucket; raises ConfigError."""
    if not config.recording_bucket:
        return None
    try:
        s3 = boto3.client("s3", endpoint_url=config.s3_endpoint_url or None, config=S3_CLIENT)
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"S3 can't be used: {error}") from error
    return s3, Target(config.recording_bucket, config.recording_prefix, config.recording_kms_key_id)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Make sure that no other process uploads from there; raises ConfigError."""
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise ConfigError(
            f"RECORDING_DIR is {str(directory)!r}: another process uploads from there; allowed is "
            "one per directory"
        ) from error
    finally:
        os.close(lock)


def _list(config: RecordingsConfig) -> None:
    for recording in recording_store.find(Path(config.recording_dir)):
        state = "over" if recording.is_over(config.recording_settle_seconds) else "going on"
        sys.stdout.write(f"{recording.name}  {recording.size_bytes:>12,} bytes  {state}\n")


def _export(config: RecordingsConfig, ring: KeyRing, name: str, path: Path) -> None:
    """Decrypt into a file that only its owner can read; who did it goes into the log."""
    recording = _named(config, name)
    content = OpenRecording(recording, ring.data_key)
    seen = content.survey()
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        for piece in content.wav(seen):
            file.write(piece)
    log.warning(
        "recording_exported",
        call_id=recording.call_sid,
        recording=recording.name,
        user=os.getuid(),
        sha256=seen.sha256,
        seconds=round(seen.seconds, 1),
        gap_ms=seen.gap_ms,
        complete=seen.complete,
    )


def _named(config: RecordingsConfig, name: str) -> StoredRecording:
    """The one recording of that name or call; raises RecordingFileError."""
    found = [
        recording
        for recording in recording_store.find(Path(config.recording_dir))
        if name in (recording.name, recording.call_sid)
    ]
    if len(found) != 1:
        names = ", ".join(recording.name for recording in found) or "none"
        raise RecordingFileError(f"{name!r} has to be one recording, there are: {names}")
    return found[0]


if __name__ == "__main__":
    sys.exit(main())
