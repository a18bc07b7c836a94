"""Whether one more call can be taken."""

import pytest

from supervisor.workers.admission import REFUSALS, Limits, Refusal, why_full

ROOMY = Limits(max_calls=0, asterisk_ports=10_000, fds=65_536)


def test_there_is_room() -> None:
    """Without a limit in sight a call is taken."""
    assert why_full(ROOMY, 0, draining=False) is None
    assert why_full(ROOMY, 2_249, draining=False) is None


def test_draining() -> None:
    """A supervisor that is about to end takes nobody."""
    assert why_full(ROOMY, 0, draining=True) == Refusal("draining", "draining")


@pytest.mark.parametrize(
    ("limits", "most", "reason"),
    [
        (Limits(max_calls=3, asterisk_ports=10_000, fds=65_536), 3, "MAX_CALLS is 3"),
        (Limits(max_calls=0, asterisk_ports=400, fds=65_536), 90, "400 RTP ports"),
        (Limits(max_calls=0, asterisk_ports=44, fds=65_536), 1, "44 RTP ports"),
        (Limits(max_calls=0, asterisk_ports=10_000, fds=1_024), 960, "1024 file descriptors"),
    ],
)
def test_the_last_call_that_fits(limits: Limits, most: int, reason: str) -> None:
    """Each limit admits so many calls and no more, and is named: Asterisk keeps a reserve."""
    assert why_full(limits, most - 1, draining=False) is None
    refusal = why_full(limits, most, draining=False)
    assert refusal is not None
    assert reason in refusal.text
    assert refusal.kind in REFUSALS


def test_what_a_worker_can_hold() -> None:
    """A worker needs two descriptors for a call, and some besides."""
    assert Limits(max_calls=0, asterisk_ports=0, fds=1_064).worker_calls == 500
