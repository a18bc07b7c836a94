"""Each rule on its own: nothing on a healthy machine, one finding for one thing that is wrong."""

from collections.abc import Iterable
from typing import Any

import pytest
from msgspec.structs import replace

from deploy.doctor import access_rules, machine_rules, network_rules
from deploy.doctor.facts import LimitFacts, NameFacts, PathFacts, PortFacts
from deploy.doctor.finding import Finding, as_json, as_text, exit_code
from tests.deploy.doctor import healthy as ok

SLOW = 4000.0


def names(findings: Iterable[Finding]) -> list[str]:
    """Severity and name, as `error clock.unsynchronized`."""
    return [f"{each.severity} {each.name}" for each in findings]


def limits(**changes: Any) -> list[str]:
    """What is found when these limits differ."""
    facts: LimitFacts = replace(ok.LIMITS, **changes)
    return names(machine_rules.judge_limits(facts, ok.CALLS, -10))


def ports(runs: bool = True, **changes: Any) -> list[str]:
    """What is found when these ports differ."""
    facts: PortFacts = replace(ok.PORTS, **changes)
    judged = network_rules.judge_ports(facts, ok.MEDIA, ok.ASTERISK, supervisor_runs=runs)
    return names(judged)


def voice(**changes: Any) -> list[str]:
    """What is found when the voice server differs."""
    facts = replace(ok.VOICE_SERVER, **changes)
    return names(network_rules.judge_voice_server(facts, ok.NOW_S, signs=True))


def test_healthy_machine() -> None:
    """Nothing wrong, nothing found."""
    assert names(machine_rules.judge_clock(ok.CLOCK)) == []
    assert limits() == []
    assert names(machine_rules.judge_cpus(ok.CPUS, ok.WORKERS)) == []
    assert names(machine_rules.judge_memory(ok.MEMORY)) == []
    assert names(machine_rules.judge_volumes([ok.VOLUME])) == []
    assert names(network_rules.judge_ari(ok.ARI, ok.CALLS)) == []
    assert names(network_rules.judge_names(ok.OWN_NAME, ok.ROOT_NAME)) == []
    assert ports() == []
    assert names(network_rules.judge_supervisor(ok.SUPERVISOR)) == []
    assert voice() == []
    assert names(network_rules.judge_sip(ok.SIP, ok.NOW_S)) == []
    assert names(access_rules.judge_doors(ok.DOORS)) == []
    assert names(access_rules.judge_paths([PathFacts("RUN_DIR", "/run/ots", 0o700)])) == []


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"synchronized": False}, "error clock.unsynchronized"),
        ({"max_error_ms": 1500.0}, "warning clock.drift"),
        ({"source": "hpet"}, "warning clock.source"),
    ],
)
def test_clock(changes: dict[str, Any], found: str) -> None:
    """Nobody keeps it right, it drifts, or it is slow to read."""
    assert names(machine_rules.judge_clock(replace(ok.CLOCK, **changes))) == [found]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"fds": 1024}, "warning limits.nofile"),
        ({"fds": 200}, "error limits.nofile"),
        ({"nice_floor": 0}, "warning limits.nice"),
        ({"receive_buffer_bytes": 16384}, "warning limits.rmem"),
        ({"conntrack": (900, 1000)}, "warning limits.conntrack"),
        ({"conntrack": (10, 3000)}, "warning limits.conntrack"),
        ({"lost_datagrams": 2000}, "warning limits.lost"),
    ],
)
def test_limits(changes: dict[str, Any], found: str) -> None:
    """Descriptors, priority, buffers, connection tracking, packets that were lost."""
    assert limits(**changes) == [found]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"usable": 2}, "warning cpu.workers"),
        ({"quota": 1.5}, "error cpu.quota"),
        ({"governors": ("performance", "powersave")}, "warning cpu.governor"),
        ({"steal_share": 0.05}, "warning cpu.steal"),
    ],
)
def test_cpus(changes: dict[str, Any], found: str) -> None:
    """Too few, throttled, slow, or shared with strangers."""
    assert names(machine_rules.judge_cpus(replace(ok.CPUS, **changes), ok.WORKERS)) == [found]


def test_memory() -> None:
    """Little, none, and swap."""
    low = replace(ok.MEMORY, available_bytes=200 << 20)
    assert names(machine_rules.judge_memory(low)) == ["warning memory.low"]
    none = replace(ok.MEMORY, available_bytes=10 << 20)
    assert names(machine_rules.judge_memory(none)) == ["error memory.low"]
    swap = replace(ok.MEMORY, swap_bytes=ok.GIB)
    assert names(machine_rules.judge_memory(swap)) == ["warning memory.swap"]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"free_bytes": 1 << 20}, "error disk.full"),
        ({"file_share": 0.0}, "error disk.full"),
        ({"free_share": 0.01}, "warning disk.low"),
        ({"in_memory": False}, "warning disk.run-dir"),
    ],
)
def test_volumes(changes: dict[str, Any], found: str) -> None:
    """Full, nearly full, out of inodes, or a run directory on a disk."""
    assert names(machine_rules.judge_volumes([replace(ok.VOLUME, **changes)])) == [found]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"problem": "connection refused"}, ["error ari.unreachable"]),
        ({"takes_any_password": True}, ["error ari.password"]),
        ({"version": "22.9.0"}, ["warning ari.version"]),
        ({"version": "18.26.4"}, ["warning ari.version"]),
        ({"version": "22.10.1~dfsg+~cs6.15"}, []),
        ({"version": "24.0.0"}, []),
        ({"version": "GIT-master-1234"}, []),
        ({"max_open_files": 1024}, ["warning ari.nofile"]),
    ],
)
def test_ari(changes: dict[str, Any], found: list[str]) -> None:
    """No answer, no lock on the door, too old, too few files."""
    assert names(network_rules.judge_ari(replace(ok.ARI, **changes), ok.CALLS)) == found


@pytest.mark.parametrize(
    ("own", "root", "found"),
    [
        (NameFacts("host", (), 1.0, "unknown"), ok.ROOT_NAME, []),
        (ok.OWN_NAME, NameFacts("A.ROOT-SERVERS.NET", (), SLOW, "no answer"), []),
        (NameFacts("host", ("192.0.2.1",), SLOW), ok.ROOT_NAME, ["error dns.slow"]),
        (
            NameFacts("host", (), 1.0, "unknown"),
            NameFacts("A.ROOT-SERVERS.NET", (), SLOW, "no answer"),
            ["error dns.slow"],
        ),
        (
            NameFacts("host", (), 1.0, "unknown"),
            NameFacts("A.ROOT-SERVERS.NET", (), 1.0, "unknown"),
            ["warning dns.own-name"],
        ),
    ],
)
def test_names(own: NameFacts, root: NameFacts, found: list[str]) -> None:
    """The second name is asked for only when the first has no address."""
    assert names(network_rules.judge_names(own, root)) == found


def test_ports() -> None:
    """Taken by others, not by our own calls; the kernel's own range, unless it is reserved."""
    assert ports(taken=frozenset({20000, 5}), leased=1) == []
    assert ports(taken=frozenset({20000, 5}), leased=None) == []
    assert ports(taken=frozenset({20000, 20001}), leased=1) == ["warning ports.taken"]
    assert ports(taken=frozenset(range(20000, 22000))) == ["error ports.taken"]
    assert ports(ephemeral=(29000, 60999)) == ["warning ports.ephemeral"]
    assert ports(ephemeral=(29000, 60999), reserved=((20000, 30000),)) == []
    assert ports(http_problem="in use") == []
    assert ports(http_problem="in use", runs=False) == ["error ports.http"]


def test_supervisor() -> None:
    """One that runs tells how it is; one that doesn't is no finding."""
    degraded = replace(ok.SUPERVISOR, status="degraded")
    assert names(network_rules.judge_supervisor(degraded)) == ["error supervisor.degraded"]
    none = replace(ok.SUPERVISOR, runs=False, status="")
    assert names(network_rules.judge_supervisor(none)) == []


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"name": NameFacts("x", (), 1.0, "unknown")}, "error voice-server.name"),
        ({"name": NameFacts("x", ("192.0.2.1",), SLOW)}, "warning voice-server.slow-name"),
        ({"tls": replace(ok.TLS, problem="expired")}, "error voice-server.tls"),
        ({"tls": replace(ok.TLS, expires_s=ok.NOW_S + 86400)}, "warning voice-server.expires"),
        ({"problem": "403"}, "error voice-server.unreachable"),
        ({"handshake_ms": 3000.0}, "warning voice-server.slow"),
        ({"accepts_unsigned": True}, "warning voice-server.unsigned"),
    ],
)
def test_voice_server(changes: dict[str, Any], found: str) -> None:
    """Name, certificate, handshake, speed, and whether it asks who is there."""
    assert voice(**changes) == [found]


def test_old_tls() -> None:
    """SIP that speaks TLS 1.1."""
    old = replace(ok.SIP, tls=replace(ok.SIP.tls, accepts_old=True))
    assert names(network_rules.judge_sip(old, ok.NOW_S)) == ["error sip-tls.old"]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"http_host": "0.0.0.0"}, "warning access.http"),
        ({"ari_base": "http://192.0.2.1:8088"}, "error access.ari"),
        ({"voice_agent_host": "0.0.0.0", "signed": False}, "error access.voice-agent"),
        ({"allow_unencrypted": True}, "warning access.unencrypted"),
    ],
)
def test_doors(changes: dict[str, Any], found: str) -> None:
    """What other machines could reach."""
    assert names(access_rules.judge_doors(replace(ok.DOORS, **changes))) == [found]


def test_modes() -> None:
    """Files that others can read."""
    paths = [PathFacts(".env", ".env", 0o644), PathFacts("RUN_DIR", "/run/ots", 0o750)]
    assert names(access_rules.judge_paths(paths)) == ["error access.mode"] * 2


def test_what_is_printed() -> None:
    """Errors first, one line each with why and mend; the exit code is the worst."""
    drift = replace(ok.CLOCK, max_error_ms=1500.0)
    findings = [
        *machine_rules.judge_clock(drift),
        *machine_rules.judge_clock(replace(ok.CLOCK, synchronized=False)),
    ]
    first, second = as_text(findings).splitlines()
    assert first.startswith("ERROR   clock.unsynchronized: ")
    assert second.startswith("WARNING clock.drift: ")
    assert " | Why it matters: " in first
    assert " | Mend: " in first
    assert '"exit_code": 2' in as_json(findings)
    assert [exit_code(findings), exit_code(findings[:1]), exit_code([])] == [2, 1, 0]
