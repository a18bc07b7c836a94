"""What is wrong with names, ports, ARI and the TLS legs. Pure: facts in, findings out."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from deploy.asterisk_version import OLDEST_GOOD
from deploy.doctor.facts import (
    AriFacts,
    NameFacts,
    PortFacts,
    SipFacts,
    SupervisorFacts,
    TlsFacts,
    VoiceServerFacts,
)
from deploy.doctor.finding import Finding, error, warning

SLOW_NAME_MS: Final = 500.0
SLOW_HANDSHAKE_MS: Final = 1000.0
FEW_DAYS: Final = 14.0
DAY_S: Final = 86400.0
ROOT_SERVER: Final = "A.ROOT-SERVERS.NET"
TAKEN_SHARE: Final = 0.1
FDS_PER_CALL: Final = 4
"""Of Asterisk: RTP and RTCP of the caller's leg, RTP of the agent's, and a bridge's timer."""


def judge_ari(ari: AriFacts, calls: int) -> Iterator[Finding]:
    """ARI, and the Asterisk behind it."""
    if ari.problem:
        yield error(
            "ari.unreachable",
            f"ARI: {ari.problem}",
            "without it no call gets an agent",
            "start Asterisk; ARI_BASE, ARI_USER and ARI_PASS as in its http.conf and ari.conf",
        )
        return
    if ari.takes_any_password:
        yield error(
            "ari.password",
            "ARI takes a wrong password",
            "whoever reaches its port can listen to and place calls",
            "check ari.conf, and what stands between us and Asterisk",
        )
    if why := _why_old(ari.version):
        yield warning(
            "ari.version",
            f"Asterisk is {ari.version}: {why}",
            "older ones have known security faults and lose calls in bridges",
            "update Asterisk within its series",
        )
    if ari.max_open_files is not None and ari.max_open_files < FDS_PER_CALL * calls:
        yield warning(
            "ari.nofile",
            f"Asterisk may open {ari.max_open_files} files, {calls} calls need "
            f"{FDS_PER_CALL * calls}",
            "calls beyond it fail in the middle of their set-up",
            "maxfiles in asterisk.conf, and the limit that Asterisk is started with",
        )


def _why_old(version: str) -> str:
    """Why this version is too old; empty if it isn't, or is none that we can read."""
    found = re.match(r"(?:certified/)?(\d+)\.(\d+)(?:\.(\d+))?", version)
    if not found:
        return ""
    numbers = tuple(int(number or 0) for number in found.groups())
    oldest = min(OLDEST_GOOD)
    if numbers[0] < oldest:
        return f"series before {oldest} are not supported any more"
    fixed = OLDEST_GOOD.get(numbers[0])
    needed = ".".join(map(str, fixed)) if fixed else ""
    return f"{needed} is the first with the fixes we need" if fixed and numbers < fixed else ""


def judge_names(own: NameFacts, root: NameFacts) -> Iterator[Finding]:
    """The names that Asterisk looks up when it writes SDP: its host's, and failing that another."""
    slow = [name for name in (own, root) if name.took_ms > SLOW_NAME_MS]
    if own.addresses and own not in slow:
        return
    why = "Asterisk looks it up for each call (ast_find_ourip), and all calls wait meanwhile"
    mend = f"put {own.name} and {ROOT_SERVER} into the /etc/hosts that Asterisk sees"
    if slow:
        what = ", ".join(f"looking up {each.name} takes {each.took_ms:.0f} ms" for each in slow)
        yield error("dns.slow", what, why, mend)
    elif not root.addresses:
        what = f"neither {own.name} nor {ROOT_SERVER} has an address"
        yield warning("dns.own-name", what, why, mend)


def judge_ports(
    ports: PortFacts, media: tuple[int, int], asterisk: tuple[int, int], *, supervisor_runs: bool
) -> Iterator[Finding]:
    """Port ranges, both ends included. Overlaps of ours and Asterisk's are refused settings."""
    taken = sorted(port for port in ports.taken if media[0] <= port <= media[1])
    foreign = len(taken) - ports.leased if ports.leased is not None else 0
    if foreign > 0:
        many = foreign > TAKEN_SHARE * (media[1] - media[0] + 1)
        yield (error if many else warning)(
            "ports.taken",
            f"{foreign} UDP ports of {_text(media)} belong to others, the first of all taken is "
            f"{taken[0]}",
            "a call that gets one must look for another, and there is room for fewer calls",
            "another range, or end the other program (ss --udp --listening --processes)",
        )
    if ports.http_problem and not supervisor_runs:
        yield error(
            "ports.http",
            f"HTTP_PORT: {ports.http_problem}",
            "the supervisor does not start",
            "another HTTP_PORT, or end the program that has it",
        )
    for variable, block in (("RTP_PORT", media), ("ASTERISK_RTP", asterisk)):
        if not _apart(block, ports.ephemeral) and not _within(block, ports.reserved):
            yield warning(
                "ports.ephemeral",
                f"{variable}_START..END {_text(block)} overlaps the kernel's own choice "
                f"{_text(ports.ephemeral)}",
                "any outgoing connection may sit on a call's port",
                f"sysctl net.ipv4.ip_local_reserved_ports={block[0]}-{block[1]}",
            )


def _apart(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[1] < other[0] or other[1] < one[0]


def _within(block: tuple[int, int], reserved: Sequence[tuple[int, int]]) -> bool:
    return any(first <= block[0] and block[1] <= last for first, last in reserved)


def _text(ports: tuple[int, int]) -> str:
    return f"{ports[0]}..{ports[1]}"


def judge_supervisor(supervisor: SupervisorFacts) -> Iterator[Finding]:
    """A supervisor that runs says itself how it is."""
    if supervisor.runs and supervisor.status not in ("ok", "draining"):
        yield error(
            "supervisor.degraded",
            f"the supervisor is {supervisor.status or 'silent'}: {supervisor.reason}",
            "calls may get no agent",
            "see its log for ari_unreachable, worker_lost or worker_cannot_start",
        )


def judge_voice_server(server: VoiceServerFacts, now_s: float, *, signs: bool) -> Iterator[Finding]:
    """A voice server: name, certificate, handshake, and whether it asks who we are."""
    where = f"{server.setting} {server.url}"
    why = "calls get no agent, or after it only the fallback"
    if server.name.problem:
        mend = "the right host, or its record in DNS (getent hosts)"
        yield error("voice-server.name", f"{where}: {server.name.problem}", why, mend)
        return
    if server.name.took_ms > SLOW_NAME_MS:
        what = f"looking up {server.name.name} takes {server.name.took_ms:.0f} ms"
        mend = "a caching resolver on this machine (systemd-resolved, unbound)"
        yield warning("voice-server.slow-name", what, "each call waits for it", mend)
    if server.tls is not None:
        yield from judge_tls("voice-server", where, server.tls, now_s)
        if server.tls.problem:
            return
    if server.problem:
        mend = "start it, open the way to it, or mend TWILIO_AUTH_TOKEN or STREAM_BEARER_TOKEN"
        yield error("voice-server.unreachable", f"{where}: {server.problem}", why, mend)
        return
    if server.handshake_ms > SLOW_HANDSHAKE_MS:
        yield warning(
            "voice-server.slow",
            f"{where} takes {server.handshake_ms:.0f} ms for a handshake",
            "the caller hears nothing meanwhile",
            "accept the WebSocket before asking a model; a server nearby",
        )
    if signs and server.accepts_unsigned:
        yield warning(
            "voice-server.unsigned",
            f"{where} takes streams that are not signed",
            "whoever reaches it can talk to the agent as if they were a caller",
            "check X-Twilio-Signature there",
        )


def judge_sip(sip: SipFacts, now_s: float) -> Iterator[Finding]:
    """The trunk's side."""
    yield from judge_tls("sip-tls", f"SIP at {sip.address}", sip.tls, now_s)


def judge_tls(check: str, where: str, tls: TlsFacts, now_s: float) -> Iterator[Finding]:
    """A TLS leg. Its problems include a bad chain, a wrong host and an expired certificate."""
    if tls.problem:
        yield error(
            f"{check}.tls",
            f"{where}: {tls.problem}",
            "the peer refuses to send anything over it, or we do",
            "a valid certificate with its whole chain for this host, and TLS 1.2 or newer",
        )
        return
    days = (tls.expires_s - now_s) / DAY_S
    if days < FEW_DAYS:
        yield warning(
            f"{check}.expires",
            f"{where}: the certificate ends in {days:.1f} days",
            "from then on no call comes through",
            "renew it; see why the automatic renewal (certbot renew) has not done so",
        )
    if tls.accepts_old:
        yield error(
            f"{check}.old",
            f"{where} accepts TLS 1.1 or older",
            "these versions can be broken, and are forbidden for data like ours (RFC 8996)",
            "method=tlsv1_2 or newer in the transport of pjsip.conf",
        )
