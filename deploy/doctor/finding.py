"""What `ots-doctor` says: one finding for each thing that is wrong. Pure."""

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

Severity: TypeAlias = Literal["error", "warning"]
EXIT_CODES: Final[dict[Severity, int]] = {"warning": 1, "error": 2}


class Finding(Struct, frozen=True):
    """One thing that is wrong.

    `name` is stable, `check.detail`, as "clock.unsynchronized"; its first part can be skipped on
    the command line. An error keeps calls from working or data from being safe; a warning may.
    """

    name: str
    severity: Severity
    what: str
    why: str
    mend: str

    def __str__(self) -> str:
        head = f"{self.severity.upper():7} {self.name}: {self.what}"
        return f"{head} | Why it matters: {self.why} | Mend: {self.mend}"


def error(name: str, what: str, why: str, mend: str) -> Finding:
    """A finding that must be mended."""
    return Finding(name, "error", what, why, mend)


def warning(name: str, what: str, why: str, mend: str) -> Finding:
    """A finding that an operator may live with."""
    return Finding(name, "warning", what, why, mend)


def exit_code(findings: Sequence[Finding]) -> int:
    """0: nothing found, 1: warnings only, 2: at least one error."""
    return max((EXIT_CODES[finding.severity] for finding in findings), default=0)


def as_text(findings: Sequence[Finding]) -> str:
    """One line each, errors first."""
    lines = [str(finding) for finding in in_order(findings)]
    return "\n".join(lines or ["Nothing found."]) + "\n"


def as_json(findings: Sequence[Finding]) -> str:
    """`{"exit_code": 0, "findings": [...]}`, errors first."""
    content = {"exit_code": exit_code(findings), "findings": in_order(findings)}
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n"


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """Errors first, otherwise as they were found."""
    return sorted(findings, key=lambda finding: finding.severity)
