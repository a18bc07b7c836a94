"""The audit log, where this version keeps one."""

from deploy.doctor.audit import look_at_audit_log
from deploy.doctor.evidence import NOT_SEEN, Access, Origin, report
from deploy.doctor.facts import AuditFacts
from deploy.doctor.seen import Seen


def text_of(audit: AuditFacts | None) -> str:
    """The report of an examination that saw only this."""
    origin = Origin(0.0, "host", {})
    return report(origin, Access("", "", "", {}, {}), Seen(audit=audit), [])


def test_none_is_kept() -> None:
    """Settings without an audit log are no fault, and the report says so."""
    assert look_at_audit_log(object()) is None
    assert "This version keeps none." in text_of(None)
    assert "None is kept here." in text_of(AuditFacts())


def test_what_the_report_says_of_it() -> None:
    """The chain's head, or where it is broken."""
    assert "`abc`" in text_of(AuditFacts("/var/log/audit.jsonl", 3, "abc"))
    assert "**broken**: line 2" in text_of(AuditFacts("a", 3, "abc", "line 2: it was changed"))


def test_what_nobody_looked_at() -> None:
    """An empty examination claims nothing."""
    text = text_of(None)
    assert f"phone network ↔ Asterisk, signalling | {NOT_SEEN}" in text
    assert "No log was given" in text
