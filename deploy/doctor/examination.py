"""Joins probes and rules: looks at what is wanted, then judges what was seen."""

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct

from deploy.doctor import access_rules, machine_probes, machine_rules, network_rules, port_probe
from deploy.doctor.access_rules import Doors
from deploy.doctor.audit import look_at_audit_log
from deploy.doctor.facts import ClockFacts
from deploy.doctor.finding import Finding, error
from deploy.doctor.peer_probes import look_at_ari, look_at_sip, look_at_voice_server
from deploy.doctor.phi_scan import PhiFacts, scan
from deploy.doctor.seen import Seen
from deploy.doctor.settings import ENV_FILE, Settings
from deploy.doctor.tls_probe import look_up
from shim.config import ShimConfig, tls_context
from supervisor.config import TOKEN_FILE, SupervisorConfig
from supervisor.workers.admission import Limits

CHECKS: Final = (
    "configuration",
    "ari",
    "voice-server",
    "sip-tls",
    "supervisor",
    "clock",
    "dns",
    "ports",
    "limits",
    "cpu",
    "memory",
    "disk",
    "access",
    "audit",
    "logs",
)
"""The first parts of findings' names: what can be skipped."""
ClockProbe: TypeAlias = Callable[[], ClockFacts]


class Orders(Struct, frozen=True):
    """What to look at besides what the settings name. `sip` is host and port; None: nothing."""

    wanted: frozenset[str] = frozenset(CHECKS)
    sip: tuple[str, int] | None = None
    sip_ca_file: str = ""
    logs: tuple[Path, ...] = ()
    look_at_clock: ClockProbe = machine_probes.look_at_clock


async def look(settings: Settings, orders: Orders) -> Seen:
    """Ask all peers, at the same time, and look at ports, paths and logs."""
    seen, wanted = Seen(), orders.wanted
    sip_tls = ssl.create_default_context(cafile=orders.sip_ca_file or None)
    config = settings.supervisor
    if "clock" in wanted:
        seen.clock = orders.look_at_clock()
    if "logs" in wanted:
        seen.logs = [_read_log(path) for path in orders.logs]
    async with asyncio.TaskGroup() as tasks:
        if "dns" in wanted:
            tasks.create_task(_names(seen))
        if "sip-tls" in wanted and orders.sip is not None:
            tasks.create_task(_sip(seen, orders.sip, sip_tls))
        if config is not None:
            tasks.create_task(_supervisor(seen, config))
            if "ari" in wanted:
                tasks.create_task(_ari(seen, config))
            if "voice-server" in wanted and settings.worker is not None:
                tasks.create_task(_voice_servers(seen, config, settings.worker))
    if config is not None:
        leased = seen.supervisor.leased if seen.supervisor else 0
        host = config.rtp_bind_host or config.external_media_host
        seen.audit = look_at_audit_log(config)
        seen.ports = port_probe.look_at_ports(host, (config.http_host, config.http_port), leased)
    seen.paths = machine_probes.look_at_paths(_private_paths(settings))
    return seen


async def _names(seen: Seen) -> None:
    own, root = socket.gethostname(), network_rules.ROOT_SERVER
    seen.names = (await look_up(own), await look_up(root))


async def _sip(seen: Seen, address: tuple[str, int], tls: ssl.SSLContext) -> None:
    seen.sip = await look_at_sip(*address, tls)


async def _supervisor(seen: Seen, config: SupervisorConfig) -> None:
    http = (config.http_host, config.http_port)
    made = config.run_path() / TOKEN_FILE
    token = config.api_token or (made.read_text(encoding="ascii") if _readable(made) else "")
    seen.supervisor = await port_probe.look_at_supervisor(config.run_path(), http, token)


def _readable(path: Path) -> bool:
    return os.access(path, os.R_OK)


async def _ari(seen: Seen, config: SupervisorConfig) -> None:
    seen.ari = await look_at_ari(config.ari_settings())


async def _voice_servers(seen: Seen, config: SupervisorConfig, worker: ShimConfig) -> None:
    link, tls = worker.link_settings(), tls_context(worker)
    for setting in ("ECS_MEDIA_WSS_URL", "ECS_MEDIA_WSS_FALLBACK_URL"):
        if url := getattr(config, setting.lower()):
            seen.voice_servers.append(await look_at_voice_server(setting, url, link, tls))


def _private_paths(settings: Settings) -> dict[str, Path]:
    """What holds secrets, or what was said."""
    paths = {ENV_FILE: Path(ENV_FILE), **_named(settings, ("_dir", "_key_file", "_client_cert"))}
    if settings.supervisor is not None:
        paths["RUN_DIR"] = settings.supervisor.run_path()
    if key_file := settings.environ.get("OPENAI_API_KEY_FILE"):
        paths["OPENAI_API_KEY_FILE"] = Path(key_file)
    return paths


def _named(settings: Settings, endings: tuple[str, ...]) -> dict[str, Path]:
    """Paths that are set, by variable: the names of their settings end so."""
    return {
        name.upper(): Path(value)
        for program in (settings.supervisor, settings.worker, settings.voice_agent)
        if program is not None
        for name, value in msgspec.structs.asdict(program).items()
        if name.endswith(endings) and value
    }


def _read_log(path: Path) -> PhiFacts:
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            return scan(str(path), lines)
    except OSError as failure:
        return PhiFacts(str(path), 0, {}, {}, f"{path}: {failure.strerror}")


def judge(settings: Settings, seen: Seen, orders: Orders) -> list[Finding]:
    """Judge what was seen, and the machine itself: all findings of the checks that are wanted."""
    found = [*settings.findings, *_judge_peers(settings, seen), *_examine_machine(settings, orders)]
    found += _judge_access(settings, seen)
    if seen.clock is not None:
        found += machine_rules.judge_clock(seen.clock)
    if seen.names is not None:
        found += network_rules.judge_names(*seen.names)
    return [each for each in found if each.name.partition(".")[0] in orders.wanted]


def _calls(config: SupervisorConfig) -> int:
    """How many calls at once the settings promise."""
    asterisk_ports = config.asterisk_rtp_end - config.asterisk_rtp_start + 1
    ports = config.rtp_port_end - config.rtp_port_start + 1
    calls = min(ports, Limits(0, asterisk_ports, 0).asterisk_calls)
    return min(calls, config.max_calls or calls)


def _judge_peers(settings: Settings, seen: Seen) -> Iterator[Finding]:
    now_s, config = time.time(), settings.supervisor
    if seen.sip is not None:
        yield from network_rules.judge_sip(seen.sip, now_s)
    if config is None:
        return
    if seen.ari is not None:
        yield from network_rules.judge_ari(seen.ari, _calls(config))
    signs = bool(settings.worker and settings.worker.twilio_auth_token)
    for server in seen.voice_servers:
        yield from network_rules.judge_voice_server(server, now_s, signs=signs)
    if seen.supervisor is not None and seen.ports is not None:
        yield from network_rules.judge_supervisor(seen.supervisor)
        yield from network_rules.judge_ports(
            seen.ports,
            (config.rtp_port_start, config.rtp_port_end),
            (config.asterisk_rtp_start, config.asterisk_rtp_end),
            supervisor_runs=seen.supervisor.runs,
        )


def _examine_machine(settings: Settings, orders: Orders) -> Iterator[Finding]:
    config, worker = settings.supervisor, settings.worker
    cpus = machine_probes.look_at_cpus()
    if config is not None and worker is not None:
        limits = machine_probes.look_at_limits()
        yield from machine_rules.judge_limits(limits, _calls(config), worker.worker_nice)
    yield from machine_rules.judge_cpus(cpus, config.workers if config else 0)
    yield from machine_rules.judge_memory(machine_probes.look_at_memory())
    places = {"the root": Path("/"), "this directory": Path.cwd(), **_named(settings, ("_dir",))}
    if config is not None:
        places["RUN_DIR"] = config.run_path()
    places |= {f"log {path.name}": path.parent for path in orders.logs}
    volumes = [machine_probes.look_at_volume(name, path) for name, path in places.items()]
    yield from machine_rules.judge_volumes(volumes)


def _judge_access(settings: Settings, seen: Seen) -> Iterator[Finding]:
    yield from access_rules.judge_paths(seen.paths)
    config, agent = settings.supervisor, settings.voice_agent
    if config is not None and agent is not None:
        doors = Doors(
            http_host=config.http_host,
            ari_base=config.ari_base,
            voice_agent_host=agent.voice_agent_host,
            signed=bool(agent.twilio_auth_token),
            allow_unencrypted=config.allow_unencrypted,
        )
        yield from access_rules.judge_doors(doors)
    if seen.audit is not None and seen.audit.problem:
        yield error(
            "audit.broken",
            f"{seen.audit.path}: {seen.audit.problem}",
            "what was done to calls can't be proved any more",
            "keep the file as it is, find out who wrote to it, and begin a new one",
        )
    for log in seen.logs:
        if log.problem:
            mend = "name logs that this user may read"
            yield error("logs.unreadable", log.problem, "nothing is known about it", mend)
        for kind, hits in log.hits.items():
            yield error(
                "logs.phi",
                f"{log.path}: {hits} lines with a {kind}, the first is line {log.first_line[kind]}",
                "logs go to places where callers' data must not be",
                "find who writes it (not our programs at any level), remove or encrypt the log",
            )
