"""Looks after the recordings of a directory: uploads what is over, or deletes what is too old."""

import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import structlog
from botocore.exceptions import BotoCoreError, ClientError
from msgspec import Struct

from shim.recording_format import RecordingFileError
from shim.recording_keys import RecordingKeyError
from supervisor.recordings import store as recording_store
from supervisor.recordings.store import OpenRecording, StoredRecording, Unwrap
from supervisor.recordings.upload import NotConfirmedError, Target, Upload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = structlog.get_logger()

LOOK_S: Final = 1.0
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 300.0
DAY_S: Final = 86_400
S3: TypeAlias = "tuple[S3Client, Target] | None"
"""Client and target; None: nothing is uploaded."""


class Rules(Struct, frozen=True):
    """`settle_s`: when a recording without an end is over; `keep_s`: when it is too old (0: never).

    The second counts only where nothing is uploaded.
    """

    settle_s: float
    keep_s: float


class Uploader:
    """Works until `stop` is set.

    Args:
        directory: the recordings.
        unwrap: opens their keys.
        s3: where they go; None: nowhere.

    What can't be opened is left where it is, said once, and tried again by the next start.
    """

    def __init__(self, directory: Path, unwrap: Unwrap, s3: S3, rules: Rules) -> None:
        self._directory = directory
        self._unwrap = unwrap
        self._s3 = s3
        self._rules = rules
        self._unreadable: set[str] = set()
        self._failures = 0
        self.stop = threading.Event()

    def run(self) -> None:
        """Look each second; after a failure pause, longer each time."""
        while not self.stop.wait(self._pause_s()):
            try:
                self._look()
            except (BotoCoreError, ClientError, NotConfirmedError, OSError) as error:
                self._failures += 1
                log.error("recordings_failed", reason=str(error), failures=self._failures)

    def _pause_s(self) -> float:
        if not self._failures:
            return LOOK_S
        longest_s = min(FIRST_PAUSE_S * 2.0 ** min(self._failures - 1, 30), LONGEST_PAUSE_S)
        return longest_s * random.uniform(0.5, 1.0)  # many machines must not come back at once

    def _look(self) -> None:
        for recording in recording_store.find(self._directory):
            if self.stop.is_set():
                return
            if recording.name in self._unreadable or not recording.is_over(self._rules.settle_s):
                continue
            if self._s3 is None:
                self._delete_if_old(recording)
            else:
                self._upload(recording, *self._s3)
        self._failures = 0

    def _upload(self, recording: StoredRecording, s3: "S3Client", target: Target) -> None:
        began_s = time.monotonic()
        try:
            upload = Upload(s3, target, recording, OpenRecording(recording, self._unwrap))
            upload.run()
        except (RecordingFileError, RecordingKeyError) as error:
            self._unreadable.add(recording.name)
            log.error("recording_unreadable", recording=recording.name, reason=str(error))
            return
        recording.delete()
        self._failures = 0
        log.info(
            "recording_uploaded",
            call_id=recording.call_sid,
            recording=recording.name,
            sha256=upload.seen.sha256,
            seconds=round(upload.seen.seconds, 1),
            gap_ms=upload.seen.gap_ms,
            complete=upload.seen.complete,
            took_s=round(time.monotonic() - began_s, 1),
        )

    def _delete_if_old(self, recording: StoredRecording) -> None:
        if self._rules.keep_s and time.time() - recording.changed_at > self._rules.keep_s:
            recording.delete()
            log.info("recording_expired", call_id=recording.call_sid, recording=recording.name)
