"""All that one examination saw, for rules and for the report. Pure."""

from msgspec import Struct

from deploy.doctor.facts import (
    AriFacts,
    AuditFacts,
    ClockFacts,
    NameFacts,
    PathFacts,
    PortFacts,
    SipFacts,
    SupervisorFacts,
    VoiceServerFacts,
)
from deploy.doctor.phi_scan import PhiFacts


class Seen(Struct):
    """What was seen of peers, and of what could be read by others; empty where nobody looked."""

    ari: AriFacts | None = None
    voice_servers: list[VoiceServerFacts] = []
    sip: SipFacts | None = None
    supervisor: SupervisorFacts | None = None
    ports: PortFacts | None = None
    clock: ClockFacts | None = None
    names: tuple[NameFacts, NameFacts] | None = None
    paths: list[PathFacts] = []
    audit: AuditFacts | None = None
    logs: list[PhiFacts] = []
