"""Who may be called, how often, and what Asterisk is told."""

import pytest

from supervisor.phone import dial_target
from supervisor.phone.phone_call import CallRejected
from supervisor.phone.toll_guard import Prefix, TollGuard, endpoint, read_prefixes


@pytest.mark.parametrize("target", ["+15551234567", "sip:anna@example.com", "sips:a.b@h:5061;x=y"])
def test_targets(target: str) -> None:
    """E.164 numbers and SIP URIs."""
    assert dial_target.party("To", target) == target


@pytest.mark.parametrize(
    "target",
    [
        "",
        "5551234567",
        "+05551234",
        "+1555",
        "+1" + "5" * 15,
        "sip:",
        "sip:a@b&c=d",
        "+1555123456\u0663",
    ],
)
def test_no_targets(target: str) -> None:
    """The error names the value, and what is allowed."""
    with pytest.raises(CallRejected, match=r"allowed is an E\.164 number") as caught:
        dial_target.party("To", target)
    assert (caught.value.code, caught.value.status) == (21211, 400)


def test_caller_ids() -> None:
    """No quotes and brackets: Asterisk would read a name out of them."""
    assert dial_target.caller("From", "+15551234567", "+15557654321") == "+15551234567"
    with pytest.raises(CallRejected, match="From is"):
        dial_target.caller("From", '"a" <1>', "sip:a@b")


def test_endpoints() -> None:
    """A number goes into the template, a SIP URI over the trunk that the template names."""
    assert endpoint("PJSIP/{number}@trunk", "+1555") == "PJSIP/+1555@trunk"
    assert endpoint("PJSIP/{number}@trunk", "sip:a@b") == "PJSIP/trunk/sip:a@b"
    tests = "PJSIP/phone/sip:{number}@127.0.0.1:5062"
    assert endpoint(tests, "+1555") == "PJSIP/phone/sip:+1555@127.0.0.1:5062"
    assert endpoint(tests, "sip:a@b") == "PJSIP/phone/sip:a@b"


def test_reading_prefixes() -> None:
    """Limits have defaults; what makes no sense is named."""
    assert read_prefixes("") == ()
    assert read_prefixes("+1, +4930:5:2") == (Prefix("+1", 60, 10), Prefix("+4930", 5, 2))
    with pytest.raises(ValueError, match="'1555'; allowed is PREFIX"):
        read_prefixes("1555")


def test_limits() -> None:
    """Per hour, at once, and none without a prefix."""
    guard = TollGuard((Prefix("+1", 3, 2),), per_second=10)
    assert guard.admit("a", "+15551234567", 0.0) == 0
    assert guard.admit("b", "+15551234567", 0.0) == pytest.approx(0.1)
    with pytest.raises(CallRejected, match="2 calls at once"):
        guard.admit("c", "+15551234567", 1.0)
    guard.ended("a")
    guard.admit("c", "+15551234567", 2.0)
    guard.ended("b")
    with pytest.raises(CallRejected, match="3 calls within the last hour"):
        guard.admit("d", "+15551234567", 3.0)
    assert guard.admit("d", "+15551234567", 3601.0) == 0
    with pytest.raises(CallRejected, match="doesn't allow"):
        guard.admit("e", "+491234567", 3601.0)
    with pytest.raises(CallRejected, match="outbound calls are off"):
        TollGuard((), 1).admit("a", "+15551234567", 0.0)


def test_the_longest_prefix_counts() -> None:
    """An expensive prefix within a cheap one has limits of its own."""
    guard = TollGuard((Prefix("+1", 60, 10), Prefix("+1900", 0, 0)), per_second=1000)
    guard.admit("a", "+15551234567", 0.0)
    with pytest.raises(CallRejected, match=r"\+1900"):
        guard.admit("b", "+19001234567", 0.0)
