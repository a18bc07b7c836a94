"""Which ports of this machine are taken, and whether a supervisor runs."""

import asyncio
import errno
import fcntl
import os
import socket
import struct
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

import msgspec

from deploy.doctor.facts import PortFacts, SupervisorFacts

KERNEL: Final = Path("/proc/sys/net/ipv4")
TIMEOUT_S: Final = 5.0


def look_at_ports(media_host: str, http: tuple[str, int], leased: int | None) -> PortFacts:
    """The kernel's tables; and a try to listen where the supervisor will."""
    tables = [Path(f"/proc/net/{name}").read_text() for name in _udp_tables()]
    low, high = (KERNEL / "ip_local_port_range").read_text().split()
    return PortFacts(
        taken=frozenset().union(*(bound_ports(table, media_host) for table in tables)),
        leased=leased,
        http_problem=_why_taken(*http),
        ephemeral=(int(low), int(high)),
        reserved=port_ranges((KERNEL / "ip_local_reserved_ports").read_text()),
    )


def _udp_tables() -> list[str]:
    return [name for name in ("udp", "udp6") if Path(f"/proc/net/{name}").exists()]


def bound_ports(table: str, host: str) -> frozenset[int]:
    """Ports in a table like /proc/net/udp at which `host` (IPv4) can't be bound any more.

    Addresses are hexadecimal words in the machine's byte order; an IPv6 socket at `::` counts.
    """
    mine = f"{struct.unpack('=I', socket.inet_aton(host))[0]:08X}"
    ports = set()
    for line in table.splitlines()[1:]:
        address, _, port = line.split()[1].partition(":")
        if address == mine or not address.strip("0"):
            ports.add(int(port, 16))
    return frozenset(ports)


def port_ranges(text: str) -> tuple[tuple[int, int], ...]:
    """Ranges as the kernel writes them: "8080,20000-29999"."""
    parts = [part.partition("-") for part in text.strip().split(",") if part]
    return tuple((int(first), int(last or first)) for first, _, last in parts)


def _why_taken(host: str, port: int) -> str:
    """Why nobody can listen there; empty if one can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
            trial.listen(1)
        except OSError as error:
            return f"{host}:{port} can't be bound: {error.strerror}"
    return ""


async def look_at_supervisor(run_dir: Path, http: tuple[str, int], token: str) -> SupervisorFacts:
    """Whether one has the run directory's lock, and what it says of itself to who has the token."""
    if not _is_locked(run_dir):
        return SupervisorFacts(runs=False)
    try:
        health = await asyncio.to_thread(_health, *http, token)
    except (OSError, msgspec.DecodeError) as error:
        return SupervisorFacts(runs=True, reason=f"/health: {error}", leased=None)
    if "workers" not in health:  # what strangers get to hear
        return SupervisorFacts(runs=True, status=health["status"], leased=None)
    workers = health["workers"]
    down = [str(worker["worker"]) for worker in workers if worker["state"] != "ready"]
    return SupervisorFacts(
        runs=True,
        status=health["status"],
        reason=health["ari"]["reason"] or (f"worker {', '.join(down)} not up" if down else ""),
        leased=sum(worker["ports"]["leased"] for worker in workers),
    )


def _is_locked(directory: Path) -> bool:
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        return error.errno == errno.EACCES  # another user's
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _health(host: str, port: int, token: str) -> dict[str, Any]:
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/health"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            body = answer.read()
    except urllib.error.HTTPError as error:
        body = error.read()
    content: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
    return content
