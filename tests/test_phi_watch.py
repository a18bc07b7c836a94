"""The search for callers' data finds what is planted, wherever the system could have written it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.phi_search import CALLER, DIGITS, Place, Search, not_by_design, numbers_in
from tests.phi_watch import BY_DESIGN

CHECKOUT = Path(__file__).parents[1]
SEARCH = Search([CALLER], [DIGITS], ["I have a cough"])
CONFTEST = """
from tests.phi_watch import PhiPlugin

def pytest_configure(config):
    config.pluginmanager.register(PhiPlugin())
"""
PLANTED = """
import asyncio, logging, shutil, subprocess, sys, tempfile
from pathlib import Path
import structlog
from tests import phi_watch

TELL = [sys.executable, "-c", "import sys; print(sys.argv[1]); sys.exit(3)"]

def test_file(tmp_path):
    (tmp_path / "worker.log").write_text("first\\nno way to NUMBER\\n")

def test_core_dump(tmp_path):
    (tmp_path / "core.1").write_bytes(bytes(range(256)) * 4096 + b"\\x00DIGITS\\x00" + bytes(4096))

def test_directory_that_is_removed():
    directory = Path(tempfile.mkdtemp())
    (directory / "audit.jsonl").write_text("actor +15550001111\\n")
    shutil.rmtree(directory)

def test_temporary_directory():
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "state").write_text("NUMBER")

def test_standard_output():
    print("sip:NUMBER@host")

def test_inherited_standard_error():
    subprocess.run([*TELL[:2], "import sys; sys.stderr.write('NUMBER')"])

def test_output_that_is_read():
    assert subprocess.run([*TELL, "NUMBER"], capture_output=True).returncode == 3

def test_output_of_a_task():
    async def run():
        process = await asyncio.create_subprocess_exec(*TELL, "NUMBER", stdout=subprocess.PIPE)
        await process.communicate()
    asyncio.run(run())

def test_library_log():
    logging.getLogger("aiohttp").warning("call of NUMBER")

def test_what_is_shown():
    phi_watch.look("GET /metrics", 'ots_calls{caller="NUMBER"} 1')

def test_own_log_is_masked():
    structlog.get_logger().warning("x", reason="no way to NUMBER")
"""


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (f"caller +{CALLER} rang", "a number"),
        (f"caller {CALLER} rang", f"the canary {CALLER}"),
        (f"PJSIP/{CALLER}@trunk", f"the canary {CALLER}"),
        ("from +442071838750", "a number"),
        ("?From=%2B442071838750", "a number"),
        ("INVITE SIP:442071838750@192.0.2.1", "a SIP or tel address"),
        ("<tel:2071838750>", "a SIP or tel address"),
        (f"keys {DIGITS}", f"the canary {DIGITS}"),
        ("keys 7 3 9 1 4 6", "the canary 7 3 9 1 4 6"),
        ('{"digit": "7"}', "pressed keys"),
        ("/cb?Digits=12", "pressed keys"),
        ("The caller: i have a COUGH", "what was said"),
        ('{"transcript":"hm"}', "a transcript"),
    ],
)
def test_found(text: str, what: str) -> None:
    """In the line where it is; and in the middle of bytes."""
    found = SEARCH.look("x", f"nothing\n{text}\n".encode())
    assert (what, 2) in [(each.what, each.line) for each in found]
    assert SEARCH.look("x", b"\xff\0" + text.encode() + b"\0\xff")


@pytest.mark.parametrize(
    "text",
    [
        f"CA{CALLER}0123456789abcdef",
        f"0.{CALLER}",
        f"2026-11-24T12:00:00.{DIGITS}Z",
        f"{DIGITS}0 ns",
        "sip:agent@127.0.0.1:5060, +1555, +00:00",
        '{"digits": "", "transcript": ""}',
    ],
)
def test_not_found(text: str) -> None:
    """Parts of ids and times are nobody's number."""
    assert SEARCH.look("x", text.encode()) == []


def test_the_canaries_are_the_tests_own_numbers() -> None:
    """Whatever number a test uses is searched for without its plus, too."""
    assert numbers_in(['call("+4930123456")', "to = f'sip:+15550001111@host'", "+1555"]) == {
        "4930123456",
        "15550001111",
    }


def test_places_by_design() -> None:
    """What is found in a named place is no finding; next to it it is."""
    places = [Place("tmp/*/calls.db", "the calls that the operator lists")]
    found = [SEARCH.look(f"tmp/a/{name}", f"+{CALLER}".encode()) for name in ("calls.db", "x.log")]
    assert not_by_design(found[0], places) == []
    assert not_by_design(found[1], places) == found[1]


def test_each_place_has_a_reason() -> None:
    """A security officer reads the list."""
    assert all(len(place.why.split()) >= 5 for place in BY_DESIGN)


def test_a_run_with_leaks_fails(tmp_path: Path) -> None:
    """Planted in every kind of place: each is found, and named; only our own logs mask it."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    planted = PLANTED.replace("NUMBER", f"+{CALLER}").replace("DIGITS", DIGITS)
    (tmp_path / "test_planted.py").write_text(planted)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "test_planted.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED, ended.stdout
    assert "11 passed" in ended.stdout
    found = [line for line in ended.stdout.splitlines() if line.startswith("  ") and " in " in line]
    for name in (
        "worker.log, line 2",
        "core.1, line 4097",
        "audit.jsonl",
        "/state",
        "test_standard_output",
        "test_inherited_standard_error",
        "test_output_that_is_read",
        "test_output_of_a_task",
        "test_library_log",
        "GET /metrics",
    ):
        assert any(name in line for line in found), f"{name}\n{ended.stdout}"
    assert not any("test_own_log_is_masked" in line for line in found), ended.stdout


def test_a_run_without_leaks_passes(tmp_path: Path) -> None:
    """What it says is how much was searched."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_clean.py").write_text("def test(tmp_path): (tmp_path / 'a').write_text('b')")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "test_clean.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout
    assert "callers' data: 0 found in 1 files and outputs" in ended.stdout
