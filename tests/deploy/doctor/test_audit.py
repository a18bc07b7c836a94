"""The audit log: looked at with the module that writes its chain."""

import time
from pathlib import Path

from deploy.doctor.audit import look_at_audit_log
from deploy.doctor.evidence import NOT_SEEN, Access, Origin, report
from deploy.doctor.facts import AuditFacts
from deploy.doctor.seen import Seen
from supervisor.api.audit_chain import Deed, Head, append
from supervisor.config import SupervisorConfig


def text_of(audit: AuditFacts | None) -> str:
    """The report of an examination that saw only this."""
    origin = Origin(0.0, "host", {})
    return report(origin, Access("", "", "", {}, {}), Seen(audit=audit), [])


def config_with(audit_log: str) -> SupervisorConfig:
    """Settings in which only the audit log matters."""
    return SupervisorConfig("user", "password", "wss://a", audit_log=audit_log)


def log_of(path: Path, lines: int) -> str:
    """Write an audit log; returns its head."""
    head, written = Head(), []
    for number in range(lines):
        line, head = append(head, Deed(f"calls.{number}", "done"), time.time())
        written.append(line)
    path.write_bytes(b"".join(written))
    return head.hash


def test_none_is_kept(tmp_path: Path) -> None:
    """Switched off, or not begun: the report says so."""
    assert look_at_audit_log(config_with("off")) == AuditFacts()
    assert look_at_audit_log(config_with(str(tmp_path / "none"))) == AuditFacts()
    assert "None is kept here." in text_of(AuditFacts())
    assert "Not looked at" in text_of(None)


def test_a_whole_chain(tmp_path: Path) -> None:
    """Its lines and its head."""
    path = tmp_path / "audit.jsonl"
    head = log_of(path, 3)
    assert look_at_audit_log(config_with(str(path))) == AuditFacts(str(path), 3, head)
    assert f"`{head}`" in text_of(AuditFacts(str(path), 3, head))


def test_a_line_that_was_changed(tmp_path: Path) -> None:
    """The report names the line."""
    path = tmp_path / "audit.jsonl"
    log_of(path, 3)
    path.write_bytes(path.read_bytes().replace(b"calls.1", b"calls.7"))
    audit = look_at_audit_log(config_with(str(path)))
    assert audit.problem.startswith("line 2: ")
    assert "**broken**: line 2" in text_of(audit)


def test_what_nobody_looked_at() -> None:
    """An empty examination claims nothing."""
    text = text_of(None)
    assert f"phone network ↔ Asterisk, signalling | {NOT_SEEN}" in text
    assert "No log was given" in text
