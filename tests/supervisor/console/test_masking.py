"""Of who calls, only two digits are shown."""

import pytest

from supervisor.console.masking import masked, shown


@pytest.mark.parametrize(
    ("party", "expected"),
    [
        ("+14155550123", "•••• 23"),
        ("14155550123", "•••• 23"),
        ("sip:+14155550123@trunk.example", "•••• 23"),
        ("5550123", "•••• 23"),
        ("100", "••••"),
        ("alice", "••••"),
        ("Alice 4155550123", "••••"),
        ("sip:alice@example.com", "••••"),
        ("<img src=x onerror=alert(1)>", "••••"),
        ("+1415555\n0123", "••••"),
        ("١٤١٥٥٥٥٠١٢٣", "••••"),
        ("", ""),
    ],
)
def test_masked(party: str, expected: str) -> None:
    """Names, extensions and what is neither are not shown at all."""
    assert masked(party) == expected


def test_shown() -> None:
    """What is as it is has a length that fits a table."""
    assert shown("+14155550123") == "+14155550123"
    assert shown("x" * 65) == "x" * 63 + "…"
