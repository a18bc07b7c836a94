"""The benchmark's picture."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from loadtest.bench_contenders import TEXTBOOK_MOST
from loadtest.bench_figures import Comparison, Run, compare
from loadtest.bench_plot import draw, main
from tests.loadtest.test_bench import measured


def comparisons() -> list[Comparison]:
    """What runs with 10, 100 and 300 calls could have found; the last is not valid."""
    found = []
    for calls in (10, 100, 300):
        contenders = {
            "ours": measured(30, calls, fell_behind=calls == 300),
            "floor": measured(20, calls, off_2ms_fraction=0.0),
        }
        if calls <= TEXTBOOK_MOST:
            contenders["textbook"] = measured(150, calls, off_2ms_fraction=0.2)
        found.append(compare(Run(calls=calls, seconds=10), contenders))
    return found


def test_the_same_figures_give_the_same_picture(tmp_path: Path) -> None:
    """An SVG that names the three, without a date, so that it only changes with its figures."""
    for name in ("one.svg", "two.svg"):
        draw(tmp_path / name, comparisons())
    one = (tmp_path / "one.svg").read_text()
    assert one == (tmp_path / "two.svg").read_text()
    assert one.startswith("<?xml")
    assert "dc:date" not in one


def test_kept_figures_are_drawn_anew(tmp_path: Path) -> None:
    """With --from nothing is measured."""
    kept, picture = tmp_path / "figures.json", tmp_path / "picture.png"
    kept.write_bytes(msgspec.json.encode(comparisons()))
    assert main(["--from", str(kept), "--to", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_figures_that_are_not_there_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that doesn't exist, or holds something else: one error, exit code 1."""
    other = tmp_path / "other.json"
    other.write_text("{}")
    for source in (tmp_path / "none.json", other):
        assert main(["--from", str(source), "--to", str(tmp_path / "picture.svg")]) == 1
        assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "picture.txt"], "--to is 'picture.txt', allowed is a name with .svg"),
        (["--counts", "1,many"], "--counts is '1,many', allowed are numbers of 1 to 1200"),
        (["--counts", "0,1"], "--counts is '0,1', allowed are numbers of 1 to 1200"),
    ],
)
def test_a_bad_argument_is_named(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line's error says the value and what is allowed."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert said in capsys.readouterr().err
