"""What counts as a caller's data in a log, and what doesn't."""

import pytest

from deploy.doctor.phi_scan import scan


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("caller +15551234567 rang", "phone number"),
        ("INVITE sip:15551234567@192.0.2.1", "SIP or tel address with a number"),
        ("<tel:+4930123456>", "SIP or tel address with a number"),
        ('{"from": "5551234567"}', "number under a caller's key"),
        ("callerid=15551234567", "number under a caller's key"),
        ('{"transcript": "I have a cough"}', "what was said"),
    ],
)
def test_found(line: str, kind: str) -> None:
    """Each kind, and the line where it is first."""
    facts = scan("a.log", ["nothing here", line, line])
    assert facts.hits[kind] == 2
    assert facts.first_line[kind] == 2
    assert facts.lines == 3


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "call_ended", "call_id": "CA0123456789abcdef", "timestamp": 1763985736123}',
        "2026-11-24T12:02:16+00:00 started",
        "listening at 127.0.0.1:20000, 1763985736123456789 ns",
        "sip:agent@127.0.0.1:5060",
        '{"transcript": ""}',
        "from 12 to 20",
    ],
)
def test_not_found(line: str) -> None:
    """Times, ids, ports and empty fields are nobody's data."""
    assert scan("a.log", [line]).hits == {}
