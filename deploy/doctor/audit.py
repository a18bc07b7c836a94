"""The audit log, verified by the module that writes its chain."""

from deploy.doctor.facts import AuditFacts
from supervisor.api import audit_chain
from supervisor.config import SupervisorConfig


def look_at_audit_log(config: SupervisorConfig) -> AuditFacts:
    """Verify the whole chain of the configured file."""
    path = config.audit_path()
    if path is None or not path.exists():
        return AuditFacts()
    try:
        with path.open("rb") as lines:
            verdict = audit_chain.verify(lines)
    except OSError as failure:
        return AuditFacts(str(path), problem=failure.strerror or str(failure))
    broken = f"line {verdict.broken_line}: {verdict.reason}" if verdict.broken_line else ""
    return AuditFacts(str(path), verdict.lines, verdict.head.hash, broken)
