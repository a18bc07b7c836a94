"""Phone numbers and keys are taken out of what is logged."""

from pathlib import Path

import pytest

from shim import masking
from shim.log_hooks import hide_numbers

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "logged"),
    [
        ("'+4930123456', but +1555", "'***', but +1555"),
        ("sip:15551234567@127.0.0.1:5060 is busy", "sip:***@127.0.0.1:5060 is busy"),
        ("SIPS:5551234@host", "SIPS:***@host"),
        ("<tel:5551234>", "<tel:***>"),
        ("<tel:+15551234567>", "<tel:***>"),
        ("sip:%2B15551234567@host", "sip:***@host"),
        ("?From=%2b15551234567&Digits=1234&x=1", "?From=***&Digits=***&x=1"),
        ("dtmf=7%2A3 refused", "dtmf=*** refused"),
        ("PJSIP/15551234567@chime-out", "PJSIP/***@chime-out"),
        ("Mary <5551234567>", "Mary <***>"),
        ("+1 (555) 123-4567", "***"),
        ("(415) 555-0123", "***"),
        ("1-415-555-0123", "***"),
        ("Traceback: '+4930123'", "Traceback: '***'"),
    ],
)
def test_numbers_are_hidden(text: str, logged: str) -> None:
    """However they are written."""
    assert masking.mask(text) == logged


@pytest.mark.parametrize(
    "text",
    [
        "CA62b0e327681542178c514d10d182570f",
        "2026-11-24T14:06:01.918123Z",
        "2026-11-24 14:06:01.918123+00:00",
        "channel 1763985736.12",
        "1763985736123456789 ns",
        "127.0.0.1:20000-29999",
        "ports 10000 to 19999",
        "sip:agent@127.0.0.1:5060",
        "recordings/20261124-120000.wav",
    ],
)
def test_what_is_no_number_stays(text: str) -> None:
    """Ids, times, ports and addresses."""
    assert masking.mask(text) == text


def test_all_fields_of_a_line_are_looked_at() -> None:
    """Nested ones, keys, bytes and objects; numbers that count something stay."""
    line = {
        "event": "x",
        "seconds": 3.5,
        "worker": None,
        "names": ["a", "+15551234567", ("sip:15551234567@x",)],
        "by": {"+15551234567": {"to": "tel:15551234567"}},
        "raw": b"from +15551234567",
        "error": ValueError("no route to +15551234567"),
        "port": 15551234567,
    }
    assert hide_numbers(None, "info", line) == {
        "event": "x",
        "seconds": 3.5,
        "worker": None,
        "names": ["a", "***", ["sip:***@x"]],
        "by": {"***": {"to": "tel:***"}},
        "raw": "b'from ***'",
        "error": "ValueError('no route to ***')",
        "port": 15551234567,
    }


@pytest.mark.parametrize("name", ["masking", "core_dumps"])
def test_the_voice_agent_has_the_same(name: str) -> None:
    """Its copies differ in what they say of themselves only."""
    codes = [
        (CHECKOUT / package / f"{name}.py").read_text(encoding="utf-8").split('"""\n', 1)[1]
        for package in ("shim", "voice_agent")
    ]
    assert codes[0] == codes[1]
