"""The evidence report: what a security officer wants to see, as it was observed. Pure.

Markdown. Each statement comes from a fact that was looked at; what nobody looked at says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from deploy.doctor.facts import AuditFacts, TlsFacts
from deploy.doctor.finding import Finding, in_order
from deploy.doctor.seen import Seen

NOT_SEEN: Final = "not looked at"
BLIND_SPOTS: Final = (
    "whether calls that are up are encrypted by SRTP: only the configuration says what is offered",
    "disk encryption, firewalls, who may log in, and backups of this machine",
    "what the voice server and the services behind it keep",
    "names, dates of birth and other data in free text: the logs are searched for phone numbers, "
    "addresses with numbers, and transcripts only",
    "business associate agreements, training and all else that is no software",
    "other machines, and this one at any other time",
)


class Origin(Struct, frozen=True):
    """Where and when the report was made. `host_id` is a keyed hash, not the machine's id."""

    now_s: float
    host_id: str
    versions: Mapping[str, str]


class Access(Struct, frozen=True):
    """What the settings say of access and retention, ready to be shown."""

    http: str
    ari: str
    media: str
    secrets: Mapping[str, bool]
    retention: Mapping[str, str]


def report(origin: Origin, access: Access, seen: Seen, findings: Sequence[Finding]) -> str:
    """The whole report."""
    when = datetime.fromtimestamp(origin.now_s, UTC).isoformat(timespec="seconds")
    parts = [
        "# Evidence of technical safeguards",
        f"Made by `ots-doctor --evidence` at {when} on host {origin.host_id}. References are to "
        "45 CFR 164.312. It states what was observed at that time, not that the law is met.",
        _section("Software", _pairs(("what", "version"), origin.versions)),
        _section("Legs and their encryption: (e) transmission security", _legs(access, seen)),
        _section("Access: (a), (d)", [*_access(access, seen)]),
        _section("Audit log: (b), (c)", [*_audit(seen.audit)]),
        _section("Retention", _pairs(("setting", "value"), access.retention)),
        _section("Callers' data in logs", [*_logs(seen)]),
        _section("Findings", [f"- {finding}" for finding in in_order(findings)] or ["None."]),
        _section("What this report can't see", [f"- {spot}" for spot in BLIND_SPOTS]),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {title}", "", *lines])


def _pairs(heads: tuple[str, str], pairs: Mapping[str, str]) -> list[str]:
    rows = [f"| {name} | {value} |" for name, value in pairs.items()]
    return [f"| {heads[0]} | {heads[1]} |", "|---|---|", *rows]


def _legs(access: Access, seen: Seen) -> list[str]:
    sip = f"SIP/TLS at {seen.sip.address}: {_tls(seen.sip.tls)}" if seen.sip else NOT_SEEN
    legs = {
        "phone network ↔ Asterisk, signalling": sip,
        "phone network ↔ Asterisk, audio": f"{NOT_SEEN} (see the end)",
        "Asterisk ↔ worker, audio": access.media,
        "Asterisk ↔ supervisor, ARI": access.ari,
        "HTTP of the supervisor": access.http,
    }
    for server in seen.voice_servers:
        tls = _tls(server.tls) if server.tls else "not encrypted (ws://)"
        legs[f"worker ↔ voice server {server.url}"] = server.name.problem or tls
    return _pairs(("leg", "as observed"), legs)


def _tls(tls: TlsFacts) -> str:
    if tls.problem:
        return f"no connection: {tls.problem}"
    expires = datetime.fromtimestamp(tls.expires_s, UTC).date()
    old = {None: "", True: "; TLS 1.1 or older is accepted too", False: "; TLS 1.1 is refused"}
    return (
        f"{tls.version}, {tls.cipher}; certificate verified, issued by {tls.issuer}, valid until "
        f"{expires}{old[tls.accepts_old]}"
    )


def _access(access: Access, seen: Seen) -> Iterator[str]:
    if seen.ari is None or seen.ari.takes_any_password is None:
        yield f"- ARI's password: {NOT_SEEN}"
    else:
        refused = "accepted" if seen.ari.takes_any_password else "refused"
        yield f"- ARI took our password; a wrong one was {refused}"
    for server in seen.voice_servers:
        answers = {None: NOT_SEEN, True: "accepted", False: "refused"}
        yield f"- {server.url}: a stream without signature was {answers[server.accepts_unsigned]}"
    for name, is_set in access.secrets.items():
        yield f"- {name} is {'set' if is_set else 'not set'}"
    for path in seen.paths:
        yield f"- {path.setting} ({path.path}) has mode {path.mode:04o}"


def _audit(audit: AuditFacts | None) -> Iterator[str]:
    if audit is None:
        yield "Not looked at: the settings can't be read."
    elif not audit.path:
        yield "None is kept here."
    elif audit.problem:
        yield f"{audit.path}: **broken**: {audit.problem}"
    else:
        yield f"{audit.path}: {audit.lines} lines, each chained to the one before it."
        yield f"Its head is `{audit.head}`; keep it elsewhere."


def _logs(seen: Seen) -> Iterator[str]:
    if not seen.logs:
        yield "No log was given (`--logs`)."
    for log in seen.logs:
        found = ", ".join(f"{hits} lines with a {kind}" for kind, hits in log.hits.items())
        searched = f"{log.lines} lines searched: {found or 'nothing found'}"
        yield f"- {log.path}: {log.problem or searched}"
