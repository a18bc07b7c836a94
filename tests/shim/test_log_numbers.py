"""Phone numbers are taken out of log lines."""

import pytest

from shim.log_setup import hide_numbers


@pytest.mark.parametrize(
    ("text", "logged"),
    [
        (
            "OUTBOUND_PREFIXES doesn't allow '+4930123456', but +1555",
            "OUTBOUND_PREFIXES doesn't allow '***', but +1555",
        ),
        ("sip:15551234567@127.0.0.1:5060 is busy", "sip:***@127.0.0.1:5060 is busy"),
        ("Traceback: '+4930123'", "Traceback: '***'"),
        ("CA62b0e327681542178c514d10d182570f", "CA62b0e327681542178c514d10d182570f"),
        ("2026-11-24T14:06:01.918123Z", "2026-11-24T14:06:01.918123Z"),
    ],
)
def test_numbers_are_hidden(text: str, logged: str) -> None:
    """Numbers alone and in SIP addresses; ids, prefixes and times stay."""
    line = {"event": "x", "reason": text, "seconds": 3}
    assert hide_numbers(None, "info", line) == {"event": "x", "reason": logged, "seconds": 3}
