"""The audit log, verified by the module that writes its chain, where this version has one."""

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from deploy.doctor.facts import AuditFacts

CHAIN: Final = "supervisor.audit_chain"


def look_at_audit_log(config: object) -> AuditFacts | None:
    """Verify the whole chain of the configured file; None where this version keeps none."""
    find_path = getattr(config, "audit_path", None)
    if find_path is None or find_spec(CHAIN) is None:
        return None
    path: Path | None = find_path()
    if path is None or not path.exists():
        return AuditFacts()
    try:
        with path.open("rb") as lines:
            verdict = importlib.import_module(CHAIN).verify(lines)
    except OSError as failure:
        return AuditFacts(str(path), problem=failure.strerror or str(failure))
    broken = f"line {verdict.broken_line}: {verdict.reason}" if verdict.broken_line else ""
    return AuditFacts(str(path), verdict.lines, verdict.head.hash, broken)
