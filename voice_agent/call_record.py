"""Writes down what was said in calls, where the operator switched it on.

One JSON line per call in a file per day (UTC) that only this user can read. Nothing of it is
ever logged.
"""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import msgspec
import structlog

from voice_agent.agent import CallMetadata
from voice_agent.conversation import Turn

log = structlog.get_logger()

_NAME: Final = "calls-%Y-%m-%d.jsonl"
_Seconds = Annotated[float, "since the epoch"]


class CallRecord(msgspec.Struct, frozen=True):
    """A line. A call whose stream was resumed has a line for each part, with all turns so far."""

    call_sid: str
    stream_sid: str
    resumed: bool
    started_s: _Seconds
    ended_s: _Seconds
    parameters: dict[str, str]
    turns: list[Turn]


class Recorder:
    """The records of one folder, each kept for `days`."""

    def __init__(self, folder: Path, days: int) -> None:
        self._folder = folder
        self._days = days

    def write(self, call: CallMetadata, started_s: float, turns: list[Turn]) -> None:
        """Append a call that is over now. A disk that fails is logged: it must not end calls."""
        now = time.time()
        record = CallRecord(
            call.call_sid,
            call.stream_sid,
            call.resumed,
            started_s,
            now,
            dict(call.parameters),
            turns,
        )
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._folder / datetime.fromtimestamp(now, UTC).strftime(_NAME)
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(file, msgspec.json.encode(record) + b"\n")
            finally:
                os.close(file)
            self.expire(datetime.fromtimestamp(now, UTC))
        except OSError as error:
            log.warning("record_failed", folder=str(self._folder), error=error.strerror)

    def expire(self, now: datetime) -> None:
        """Delete the files of days that are too old; other files are left alone."""
        oldest = (now - timedelta(days=self._days)).strftime(_NAME)
        for path in self._folder.glob("calls-????-??-??.jsonl"):
            if path.name < oldest:
                path.unlink(missing_ok=True)
