"""Looks at this machine: the kernel's files, and nothing that changes anything."""

import ctypes
import os
import resource
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deploy.doctor.facts import (
    ClockFacts,
    CpuFacts,
    LimitFacts,
    MemoryFacts,
    PathFacts,
    VolumeFacts,
)

CLOCK_SOURCE: Final = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
GOVERNORS: Final = "devices/system/cpu/cpu{}/cpufreq/scaling_governor"
CONNTRACK: Final = Path("/proc/sys/net/netfilter")
RECEIVE_BUFFER: Final = Path("/proc/sys/net/core/rmem_default")
STA_UNSYNC: Final = 0x40
CAP_SYS_NICE: Final = 23
LOWEST_NICE: Final = -20
IN_MEMORY: Final = {"tmpfs", "ramfs"}


class _Timex(ctypes.Structure):
    """struct timex up to `status` (adjtimex(2)), and room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def look_at_clock() -> ClockFacts:
    """Ask the kernel whether something keeps its clock right; raises OSError."""
    timex = _Timex()  # modes 0: nothing is set
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.adjtimex(ctypes.byref(timex)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "adjtimex")
    source = _read(CLOCK_SOURCE).strip()
    return ClockFacts(not timex.status & STA_UNSYNC, timex.maxerror / 1000, source)


def look_at_limits() -> LimitFacts:
    """Limits as the programs will have them if they are started as this one was."""
    _, fds = resource.getrlimit(resource.RLIMIT_NOFILE)
    datagrams, lost = _udp_counts(_read(Path("/proc/net/snmp")))
    return LimitFacts(
        fds=fds,
        nice_floor=_nice_floor(_read(Path("/proc/self/status"))),
        receive_buffer_bytes=int(_read(RECEIVE_BUFFER) or 1 << 30),  # not shown in containers
        conntrack=_conntrack(),
        datagrams=datagrams,
        lost_datagrams=lost,
    )


def _nice_floor(status: str) -> int:
    """20 minus RLIMIT_NICE (setrlimit(2)), or all the way down with CAP_SYS_NICE."""
    capabilities = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    if int(capabilities.split()[1], 16) >> CAP_SYS_NICE & 1:
        return LOWEST_NICE
    soft, _ = resource.getrlimit(resource.RLIMIT_NICE)
    return max(LOWEST_NICE, 20 - soft) if soft != resource.RLIM_INFINITY else LOWEST_NICE


def _udp_counts(snmp: str) -> tuple[int, int]:
    names, values = (line.split()[1:] for line in snmp.splitlines() if line.startswith("Udp:"))
    counts = dict(zip(names, map(int, values), strict=True))
    return counts["InDatagrams"], counts["RcvbufErrors"]


def _conntrack() -> tuple[int, int] | None:
    used, most = _read(CONNTRACK / "nf_conntrack_count"), _read(CONNTRACK / "nf_conntrack_max")
    return (int(used), int(most)) if used and most else None


def look_at_cpus() -> CpuFacts:
    """The CPUs that this process may use."""
    usable = sorted(os.sched_getaffinity(0))
    governors = {_read(Path("/sys") / GOVERNORS.format(cpu)).strip() for cpu in usable}
    _, *parts = _read(Path("/proc/stat")).splitlines()[0].split()
    ticks = [int(part) for part in parts]  # proc(5): the eighth is the time stolen
    return CpuFacts(
        usable=len(usable),
        quota=_cpu_quota(),
        governors=tuple(sorted(governors - {""})),
        steal_share=ticks[7] / max(sum(ticks[:8]), 1),
    )


def _cpu_quota() -> float | None:
    """The lowest quota from our control group upwards (cgroup v2, cpu.max), in CPUs."""
    group = _read(Path("/proc/self/cgroup")).splitlines()[-1:]
    if not group or not group[0].startswith("0::"):
        return None
    path = Path("/sys/fs/cgroup") / group[0][len("0::/") :]
    quotas = []
    for directory in (path, *path.parents):
        quota, _, period = _read(directory / "cpu.max").strip().partition(" ")
        if quota.isdigit():
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def look_at_memory() -> MemoryFacts:
    """/proc/meminfo."""
    lines = (line.split() for line in _read(Path("/proc/meminfo")).splitlines())
    kib = {words[0]: int(words[1]) for words in lines}
    return MemoryFacts(kib["MemAvailable:"] * 1024, kib["SwapTotal:"] * 1024)


def look_at_volume(setting: str, path: Path) -> VolumeFacts:
    """The file system that a path is on, or will be on once it is made."""
    existing = next(each for each in (path, *path.parents) if each.exists())
    usage, files = shutil.disk_usage(existing), os.statvfs(existing)
    return VolumeFacts(
        setting=setting,
        path=str(path),
        free_bytes=usage.free,
        free_share=usage.free / max(usage.total, 1),
        file_share=files.f_favail / files.f_files if files.f_files else 1.0,
        in_memory=_file_system(existing.resolve()) in IN_MEMORY,
    )


def _file_system(path: Path) -> str:
    """The kind of the file system that is mounted closest above a path (proc_mounts(5))."""
    lines = (line.split() for line in _read(Path("/proc/self/mounts")).splitlines())
    kinds = {Path(words[1]): words[2] for words in lines}
    return next((kinds[each] for each in (path, *path.parents) if each in kinds), "")


def look_at_paths(paths: Mapping[str, Path]) -> list[PathFacts]:
    """Who may read these; those that don't exist are left out. Keys are settings."""
    return [
        PathFacts(setting, str(path), path.stat().st_mode & 0o777)
        for setting, path in paths.items()
        if path.exists()
    ]


def _read(path: Path) -> str:
    """A file of the kernel's; empty if this kernel or container doesn't show it."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, PermissionError):
        return ""
