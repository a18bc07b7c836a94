"""Looks at everything that a whole test run makes the system write, and fails the run for a leak.

A pytest plugin, which tests/conftest.py registers. What it sees:

- every file of a temporary directory, before a test removes it, or else at the run's end: logs,
  audit logs, run directories, Asterisk's files, core dumps;
- what processes print, and what programs in the tests' own process log;
- what a running system answers to everybody or shows on its screens, by `look`.

`BY_DESIGN` is the list of places that may hold callers' data.
"""

import asyncio
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import structlog

from shim.log_hooks import hide_numbers
from tests.phi_search import DIGITS, WORDS, Found, Place, Search, not_by_design, numbers_in

CHECKOUT: Final = Path(__file__).parents[1]
SOURCES: Final = ("tests", "loadtest")
MOST_SHOWN: Final = 40

BY_DESIGN: Final = (
    Place("tests/test_phi_watch.py::*", "it plants callers' data, to see them found"),
    Place(
        "tmp/*/calls-????-??-??.jsonl",
        "VOICE_AGENT_RECORD_DIR: transcripts that the operator asked for, mode 0600",
    ),
    Place("*asterisk -rx *", "Asterisk's console, where root looks at calls that are up"),
    Place("tmp/*/dial.xml", "a script that the operator wrote, with the number that it dials"),
    Place("tmp/test_two_nodes*/call.xml", "what SIPp, a caller's phone, has to send"),
    Place("tmp/*/baresip/*", "the log of a caller's own phone, a program of somebody else's"),
    Place("tmp/*/load.html", "the report of a load test: whom it was told to call"),
    Place("tmp/test_a_dozen_things_wrong*/a.log", "a log that ots-doctor has to find fault with"),
    Place("tmp/test_a_run_with_leaks_fails*", "its program holds what it plants"),
)
"""Where numbers, keys and words of callers may be, and why. Everywhere else there must be none."""


class Watch:
    """What was looked at so far, and what was found. `seconds` is what it took."""

    def __init__(self, search: Search, places: tuple[Place, ...] = BY_DESIGN) -> None:
        self._search = search
        self._places = places
        self.found: list[Found] = []
        self.texts = self.size_bytes = 0
        self.seconds = 0.0

    def look(self, where: str, data: bytes) -> None:
        """Search something that was written; `where` names it."""
        began = time.perf_counter()
        self.texts += 1
        self.size_bytes += len(data)
        self.found += not_by_design(self._search.look(where, data), self._places)
        self.seconds += time.perf_counter() - began

    def look_at_files(self, directory: Path, name: str) -> None:
        """Search all files of a directory; what is mounted there is not its own."""
        for path in _files(directory):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue  # somebody has just removed it
            self.look(f"{name}/{path.relative_to(directory)}", data)


def look(where: str, text: str | bytes) -> None:
    """Search what a system under test showed to somebody."""
    if _watches:
        _watches[-1].look(where, text.encode() if isinstance(text, str) else text)


_watches: list[Watch] = []
"""The run's own, while it goes on."""


class PhiPlugin:
    """Watches a test run, from its configuration to its end."""

    def __init__(self) -> None:
        sources = (path for name in SOURCES for path in (CHECKOUT / name).rglob("*.py"))
        numbers = numbers_in(path.read_text(encoding="utf-8") for path in sources)
        self.watch = Watch(Search(numbers, [DIGITS], WORDS))
        self._patches = pytest.MonkeyPatch()
        self._seen: dict[str, int] = {}
        self._gone: set[Path] = set()

    def pytest_configure(self, config: pytest.Config) -> None:
        """Begin: removals and outputs pass by here, and logs are masked as in production."""
        _watches.append(self.watch)
        self._patches.setattr(shutil, "rmtree", self._before_removal(shutil.rmtree))
        temporary = tempfile.TemporaryDirectory  # in some versions it has its own name for rmtree
        self._patches.setattr(temporary, "cleanup", self._before_cleanup(temporary.cleanup))
        self._patches.setattr(
            subprocess.Popen, "communicate", self._of_process(subprocess.Popen.communicate)
        )
        process = asyncio.subprocess.Process
        self._patches.setattr(process, "communicate", self._of_task(process.communicate))
        *others, renderer = structlog.get_config()["processors"]
        structlog.configure(
            processors=[*others, structlog.processors.format_exc_info, hide_numbers, renderer]
        )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Search what pytest has captured; a later phase's report repeats the earlier's."""
        for title, text in report.sections:
            where = f"{report.nodeid} ({title})"
            if self._seen.get(where) != len(text):
                self._seen[where] = len(text)
                self.watch.look(where, text.encode())

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Search the files that are left, and fail the run if there was anything."""
        factory = session.config._tmp_path_factory  # type: ignore[attr-defined]
        if factory._basetemp is not None:
            self.watch.look_at_files(factory.getbasetemp(), "tmp")
        self._patches.undo()
        _watches.remove(self.watch)
        if self.watch.found and session.exitstatus in (0, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what was searched, and what was found."""
        watch, write = self.watch, terminalreporter.write_line
        size = f"{watch.texts} files and outputs, {watch.size_bytes / 1e6:.0f} MB"
        write(
            f"callers' data: {len(watch.found)} found in {size}, searched in {watch.seconds:.1f} s"
        )
        for found in watch.found[:MOST_SHOWN]:
            write(f"  {found}", red=True)

    def _before_removal(self, remove: Callable[..., None]) -> Callable[..., None]:
        def rmtree(path: Any, *arguments: Any, **options: Any) -> None:
            self._look_at_directory(Path(os.fsdecode(path)))
            remove(path, *arguments, **options)

        return rmtree

    def _before_cleanup(self, cleanup: Callable[[Any], None]) -> Callable[[Any], None]:
        def watched(temporary: Any) -> None:
            self._look_at_directory(Path(temporary.name))
            cleanup(temporary)

        return watched

    def _look_at_directory(self, directory: Path) -> None:
        """Search a temporary directory that is about to go, once."""
        is_temporary = directory.parent == Path(tempfile.gettempdir()) and directory.is_dir()
        if is_temporary and directory not in self._gone:
            self._gone.add(directory)
            self.watch.look_at_files(directory, directory.name)

    def _of_process(self, communicate: Callable[..., Any]) -> Callable[..., Any]:
        def watched(process: Any, *arguments: Any, **options: Any) -> Any:
            printed = communicate(process, *arguments, **options)
            self._look_at_output(process.args, printed)
            return printed

        return watched

    def _of_task(self, communicate: Callable[..., Any]) -> Callable[..., Any]:
        async def watched(process: Any, *arguments: Any) -> Any:
            printed = await communicate(process, *arguments)
            self._look_at_output(f"process {process.pid}", printed)
            return printed

        return watched

    def _look_at_output(self, command: object, printed: tuple[Any, ...]) -> None:
        words = [str(word) for word in command] if isinstance(command, list | tuple) else [command]
        test = os.environ.get("PYTEST_CURRENT_TEST", "outside of tests").partition(" ")[0]
        where = f"{test} (output of {' '.join(map(str, words))[:100]})"
        for text in filter(None, printed):
            self.watch.look(where, text.encode() if isinstance(text, str) else text)


def _files(directory: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if not os.path.ismount(Path(folder) / name)]
        for name in names:
            path = Path(folder) / name
            if stat.S_ISREG(path.lstat().st_mode):
                yield path
