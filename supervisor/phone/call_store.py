"""Phone calls on disk, so that they survive a supervisor's death: SQLite, in a thread of its own.

Only the latest state of a call counts: what is saved while a write goes on is written with the
next one. So the event loop never waits for the disk.
"""

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import structlog

from shim.environment import ConfigError

log = structlog.get_logger()

FILE_NAME: Final = "calls.sqlite3"
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS calls (sid TEXT PRIMARY KEY, ended_at REAL NOT NULL, state BLOB NOT NULL)
"""
RETRY_S: Final = 1.0


class CallStore:
    """States of calls by CallSid, as bytes. Create it in a running loop, `run` it, and close it.

    Raises:
        ConfigError: the file can't be had.
    """

    def __init__(self, directory: Path) -> None:
        self._dirty: dict[str, tuple[float, bytes] | None] = {}
        self._wanted = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="call-store")
        self._path = directory / FILE_NAME
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            self._database = sqlite3.connect(
                self._path, check_same_thread=False, isolation_level=None
            )
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute(SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(
                f"STATE_DIR is {str(directory)!r}: {error}; allowed is a directory to write to"
            ) from error

    def load(self) -> list[bytes]:
        """All states, oldest end first. Call it before `run`."""
        rows = self._database.execute("SELECT state FROM calls ORDER BY ended_at, rowid")
        return [state for (state,) in rows]

    def save(self, sid: str, ended_at: float, state: bytes) -> None:
        """Keep this state, soon. `ended_at`: Unix seconds, 0 for calls that go on."""
        self._dirty[sid] = (ended_at, state)
        self._wanted.set()

    def delete(self, sid: str) -> None:
        """Forget a call, soon."""
        self._dirty[sid] = None
        self._wanted.set()

    async def run(self) -> None:
        """Write what is saved, as it comes."""
        while True:
            await self._wanted.wait()
            await self._write_dirty()

    async def close(self) -> None:
        """Write the rest."""
        await self._write_dirty()
        self._thread.shutdown()
        self._database.close()

    def remove(self) -> None:
        """Delete the file of a closed store, whose calls nobody needs any more."""
        self._path.unlink(missing_ok=True)

    async def _write_dirty(self) -> None:
        self._wanted.clear()
        batch, self._dirty = self._dirty, {}
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._write, batch)
        except sqlite3.Error as error:
            log.error("calls_not_saved", calls=len(batch), reason=str(error))
            self._dirty = batch | self._dirty
            await asyncio.sleep(RETRY_S)
            self._wanted.set()

    def _write(self, batch: dict[str, tuple[float, bytes] | None]) -> None:
        kept = [(sid, *entry) for sid, entry in batch.items() if entry is not None]
        gone = [(sid,) for sid, entry in batch.items() if entry is None]
        self._database.execute("BEGIN")
        try:
            self._database.executemany("INSERT OR REPLACE INTO calls VALUES (?, ?, ?)", kept)
            self._database.executemany("DELETE FROM calls WHERE sid = ?", gone)
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")
