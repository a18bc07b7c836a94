"""What is wrong with a machine: clock, limits, CPUs, memory, disks. Pure."""

from collections.abc import Iterator, Sequence
from typing import Final

from deploy.doctor.facts import ClockFacts, CpuFacts, LimitFacts, MemoryFacts, VolumeFacts
from deploy.doctor.finding import Finding, error, warning
from supervisor.workers.admission import FD_RESERVE

MAX_CLOCK_ERROR_MS: Final = 1000.0
SLOW_CLOCKS: Final = {"hpet", "acpi_pm", "jiffies", "refined-jiffies"}
"""Reading these takes microseconds, and the pacer reads the clock for each frame."""
MIN_FDS: Final = 256
MIN_RECEIVE_BUFFER_BYTES: Final = 64 * 1024
"""The kernel charges about 768 bytes for a packet of 172: 64 KiB hold 1.7 s of a call."""
CONNTRACK_PER_CALL: Final = 2
CONNTRACK_FULL: Final = 0.8
LOST_SHARE: Final = 0.001
STEAL_SHARE: Final = 0.02
MIN_MEMORY_BYTES: Final = 128 << 20
FEW_MEMORY_BYTES: Final = 512 << 20
MIN_FREE_BYTES: Final = 16 << 20
FEW_FREE_SHARE: Final = 0.05
MIB: Final = 1 << 20


def judge_clock(clock: ClockFacts) -> Iterator[Finding]:
    """The wall clock: certificates, logs and the audit trail go by it; media does not."""
    mend = "run chrony or systemd-timesyncd (on AWS with the server 169.254.169.123)"
    why = "certificates are judged by it, and logs of several machines can't be matched"
    if not clock.synchronized:
        yield error("clock.unsynchronized", "the kernel's clock is not synchronized", why, mend)
    elif clock.max_error_ms > MAX_CLOCK_ERROR_MS:
        what = f"the clock may be off by {clock.max_error_ms:.0f} ms"
        yield warning("clock.drift", what, why, mend)
    if clock.source in SLOW_CLOCKS:
        yield warning(
            "clock.source",
            f"the kernel counts time by {clock.source}",
            "each reading of the clock takes microseconds, and media needs thousands a second",
            "choose tsc or kvm-clock in /sys/devices/system/clocksource/clocksource0",
        )


def judge_limits(limits: LimitFacts, calls: int, worker_nice: int) -> Iterator[Finding]:
    """Limits of process and kernel, for so many calls at once."""
    needed = calls + FD_RESERVE
    if limits.fds < needed:
        yield (error if limits.fds < MIN_FDS else warning)(
            "limits.nofile",
            f"{limits.fds} file descriptors are allowed, {calls} calls need {needed}",
            "calls beyond it are refused",
            "LimitNOFILE=65536 in the systemd unit, or `ulimits: nofile` in compose.yaml",
        )
    if limits.nice_floor > worker_nice:
        yield warning(
            "limits.nice",
            f"WORKER_NICE is {worker_nice}, allowed is {limits.nice_floor} and above",
            "other programs on the machine delay audio when it is busy",
            "LimitNICE=-10 in the systemd unit, or `ulimits: nice: 30` in compose.yaml",
        )
    if limits.receive_buffer_bytes < MIN_RECEIVE_BUFFER_BYTES:
        yield warning(
            "limits.rmem",
            f"net.core.rmem_default is {limits.receive_buffer_bytes} bytes",
            "audio is lost when a worker is late, and while a call moves to another worker",
            "sysctl net.core.rmem_default=212992",
        )
    yield from _judge_conntrack(limits, calls)
    if limits.lost_datagrams > LOST_SHARE * max(limits.datagrams, 1):
        yield warning(
            "limits.lost",
            f"{limits.lost_datagrams} UDP packets were lost for want of room, "
            f"{limits.datagrams} came, since the machine's start",
            "some program here reads its audio too late",
            "fewer calls for each worker; see the share of late slots in /health",
        )


def _judge_conntrack(limits: LimitFacts, calls: int) -> Iterator[Finding]:
    if limits.conntrack is None:
        return
    used, most = limits.conntrack
    if used > CONNTRACK_FULL * most or used + CONNTRACK_PER_CALL * calls > most:
        yield warning(
            "limits.conntrack",
            f"{used} of {most} tracked connections are in use, and {calls} calls need "
            f"{CONNTRACK_PER_CALL * calls}",
            "when the table is full the kernel drops packets of new calls",
            "sysctl net.netfilter.nf_conntrack_max=262144, or no tracking of RTP ports",
        )


def judge_cpus(cpus: CpuFacts, workers: int) -> Iterator[Finding]:
    """CPUs for so many workers, each pinned to one."""
    if workers > cpus.usable:
        yield warning(
            "cpu.workers",
            f"WORKERS is {workers}, but {cpus.usable} CPUs can be used",
            "workers that share a CPU delay each other's audio",
            f"WORKERS={cpus.usable}, or 0 for one per CPU",
        )
    if cpus.quota is not None and cpus.quota < cpus.usable:
        yield error(
            "cpu.quota",
            f"a quota of {cpus.quota:g} CPUs is set for {cpus.usable} usable ones",
            "a group that has used up its quota stands still for tens of ms: gaps in all calls",
            "no CPU quota (CPUQuota=, --cpus); give whole CPUs with AllowedCPUs= or --cpuset-cpus",
        )
    slow = sorted(set(cpus.governors) - {"performance"})
    if slow:
        yield warning(
            "cpu.governor",
            f"the CPU frequency governor is {' and '.join(slow)}",
            "a worker sleeps most of the time, and wakes on a slow CPU",
            "cpupower frequency-set --governor performance",
        )
    if cpus.steal_share > STEAL_SHARE:
        yield warning(
            "cpu.steal",
            f"{cpus.steal_share:.1%} of CPU time was taken by other virtual machines",
            "what is taken is missing in the audio's pace",
            "an instance with CPUs of its own, not a burstable one",
        )


def judge_memory(memory: MemoryFacts) -> Iterator[Finding]:
    """Memory, and swap that could keep what was said."""
    if memory.available_bytes < FEW_MEMORY_BYTES:
        yield (error if memory.available_bytes < MIN_MEMORY_BYTES else warning)(
            "memory.low",
            f"{memory.available_bytes // MIB} MiB of memory are available",
            "the kernel ends processes when there is none: Asterisk's death ends all calls",
            "a larger machine, or fewer calls (MAX_CALLS)",
        )
    if memory.swap_bytes:
        yield warning(
            "memory.swap",
            f"{memory.swap_bytes // MIB} MiB of swap are on",
            "audio waits for the disk, and what was said may be kept on it",
            "swapoff --all, or encrypted swap",
        )


def judge_volumes(volumes: Sequence[VolumeFacts]) -> Iterator[Finding]:
    """Room in the file systems that settings name."""
    for volume in volumes:
        where = f"{volume.path} ({volume.setting})"
        if volume.free_bytes < MIN_FREE_BYTES or volume.file_share == 0:
            yield error(
                "disk.full",
                f"{where} has {volume.free_bytes // MIB} MiB free, or no files left to make",
                "supervisor, logs or recordings can't be written",
                "make room, or name another place",
            )
        elif min(volume.free_share, volume.file_share) < FEW_FREE_SHARE:
            share = min(volume.free_share, volume.file_share)
            what = f"{where} has {share:.1%} left"
            yield warning("disk.low", what, "it will be full soon", "make room")
        if volume.setting == "RUN_DIR" and not volume.in_memory:
            yield warning(
                "disk.run-dir",
                f"{where} is not in memory",
                "workers write their heartbeats there, and a slow disk delays audio",
                "RUN_DIR on a tmpfs, such as /run or /dev/shm",
            )
