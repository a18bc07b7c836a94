"""The picture of a load test: it is drawn whatever there is to draw."""

from pathlib import Path

import pytest

from loadtest.load_figures import CallReport
from loadtest.load_picture import draw

GOOD = CallReport(
    number=1, invited_at_s=7.0, seconds=9.0, set_up_ms=5.0, received=450, round_trips_ms=[20.0]
)
BAD = CallReport(number=2, invited_at_s=8.0, failure="no answer within 10 s")


@pytest.mark.parametrize("calls", [[], [GOOD], [BAD], [GOOD, BAD]])
def test_it_is_drawn(tmp_path: Path, calls: list[CallReport]) -> None:
    """No calls, only good ones, only failed ones: none of it needs a warning."""
    draw(calls, tmp_path / "load.png")
    assert (tmp_path / "load.png").read_bytes().startswith(b"\x89PNG")
