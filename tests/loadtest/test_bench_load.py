"""The benchmark's C programs, against a far end whose faults are known."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import which

import pytest

from loadtest import bench_programs
from loadtest.bench_load import Load, LoadReport
from loadtest.bench_programs import SOURCES, BenchError, Program, compiled, cpu_ns

pytestmark = pytest.mark.skipif(which("cc") is None, reason="no C compiler on this machine")

FIRST_PORT = 25000
"""Of these tests: no other test of ours uses it, nor what follows."""
SECONDS = 1.0
PATIENCE_S = 5.0
DATAGRAM_BYTES = 2048
RTP_HEADER_BYTES = 12

Rule = Callable[[int], bool]


class FarEnd:
    """Sends back, at once, each frame of a call that `passes` its number; otherwise nothing.

    It numbers its packets by what came in, so that those it leaves out are missing.
    """

    def __init__(self, port: int, peer_port: int, passes: Rule) -> None:
        self._passes = passes
        self._count = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(("127.0.0.1", port))
        self._socket.connect(("127.0.0.1", peer_port))
        asyncio.get_running_loop().add_reader(self._socket, self._receive)

    def greet(self) -> None:
        """Send a first packet of silence, so that the load begins."""
        self._socket.send(bytes([0x80, 0]) + bytes(RTP_HEADER_BYTES - 2) + b"\xff" * 160)

    def close(self) -> None:
        """Fall silent."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _receive(self) -> None:
        packet = self._socket.recv(DATAGRAM_BYTES)
        self._count += 1
        if self._passes(self._count):
            sequence = (self._count & 0xFFFF).to_bytes(2, "big")
            self._socket.send(packet[:2] + sequence + packet[4:])


@asynccontextmanager
async def load_of(directory: Path, calls: int, passes: Rule) -> AsyncIterator[Load]:
    """A load generator whose calls are served by far ends that keep this rule."""
    async with Load(calls, FIRST_PORT, directory) as load:
        ends = [
            FarEnd(load.peer_ports[number], FIRST_PORT + number, passes) for number in range(calls)
        ]
        try:
            for end in ends:
                end.greet()
            await load.until_echoing(calls, PATIENCE_S)
            yield load
        finally:
            for end in ends:
                end.close()


async def measured(directory: Path, passes: Rule) -> LoadReport:
    """What the load generator says of three calls."""
    async with load_of(directory, 3, passes) as load:
        await load.measure(SECONDS)
        return await load.report()


async def test_all_that_comes_back_is_counted(tmp_path: Path) -> None:
    """A far end that returns every frame: no loss, 50 frames per second and call in both ways."""
    report = await measured(tmp_path, lambda _: True)
    assert report.seconds >= SECONDS
    assert report.sent == pytest.approx(3 * 50 * report.seconds, abs=6)
    assert report.received == pytest.approx(report.sent, abs=6)
    assert (report.loss_fraction, report.lost_fraction, report.unsent) == (0, 0, 0)
    assert report.received_per_second_per_call == pytest.approx(50, abs=2)
    assert report.frame_pairs_per_s == pytest.approx(150, abs=4)
    assert report.gap_p50_ms == pytest.approx(20, abs=1.5)
    assert 0 < report.round_trip_p50_ms < 20


async def test_frames_that_stay_away_are_loss(tmp_path: Path) -> None:
    """A far end that leaves out each tenth frame: a tenth is lost, by stamps and by numbers."""
    report = await measured(tmp_path, lambda count: count % 10 != 0)
    assert report.loss_fraction == pytest.approx(0.1, abs=0.02)
    assert report.lost_fraction == pytest.approx(0.1, abs=0.02)
    assert report.received_per_second_per_call == pytest.approx(45, abs=2)


async def test_a_cadence_of_40_ms_is_off(tmp_path: Path) -> None:
    """A far end that returns each second frame only: gaps of 40 ms, all of them off."""
    report = await measured(tmp_path, lambda count: count % 2 == 0)
    assert report.gap_p50_ms == pytest.approx(40, abs=1.5)
    assert report.off_2ms_fraction > 0.95
    assert report.received_per_second_per_call == pytest.approx(25, abs=1.5)


async def test_measuring_twice_starts_anew(tmp_path: Path) -> None:
    """The second report holds nothing of the first."""
    async with load_of(tmp_path, 1, lambda count: count < 50) as load:
        await load.measure(0.5)
        await load.report()
        await load.measure(0.5)
        report = await load.report()
    assert report.sent == pytest.approx(25, abs=3)
    assert report.received < 25


async def test_other_programs_are_not_taken_for_the_far_end(tmp_path: Path) -> None:
    """A packet from a port that serves no call begins nothing."""
    async with Load(1, FIRST_PORT, tmp_path) as load:
        stranger = FarEnd(load.peer_ports.stop, FIRST_PORT, lambda _: True)
        stranger.greet()
        stranger.close()
        end = FarEnd(load.peer_ports.start, FIRST_PORT, lambda _: True)
        end.greet()
        await load.until_echoing(1, PATIENCE_S)
        end.close()


async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    """The error says which port another program has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", FIRST_PORT + 1))
        with pytest.raises(BenchError, match=f"UDP port {FIRST_PORT + 1}: Address already in use"):
            async with Load(2, FIRST_PORT, tmp_path):
                pass


async def test_a_call_without_audio_is_told(tmp_path: Path) -> None:
    """Waiting for calls that nobody serves ends with how many were there."""
    async with Load(1, FIRST_PORT, tmp_path) as load, Program(["cat"], tmp_path) as server:
        with pytest.raises(BenchError, match=r"only 0 of 1 calls have audio both ways .*\n?cat"):
            await load.until_echoing(1, 0.1, server)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["load", "0", "25000", "1", "2"], 'CALLS is "0", allowed is 1 to 10000'),
        (["load", "1", "x", "1", "2"], 'FIRST_PORT is "x", allowed is 1 to 65535'),
        (["load", "1", "1", "9", "8"], 'PEER_TO is "8", allowed is 9 to 65535'),
        (["load", "1"], "usage: load CALLS FIRST_PORT PEER_FROM PEER_TO"),
        (["floor", "1", "1", "1", ""], 'WS_PORT is "", allowed is 1 to 65535'),
        (["floor"], "usage: floor CALLS FIRST_PORT PEER_PORT WS_PORT"),
    ],
)
def test_bad_arguments_are_named(arguments: list[str], named: str) -> None:
    """A wrong argument ends a program with one line that says what is allowed."""
    name, *values = arguments
    ended = subprocess.run([compiled(name), *values], capture_output=True, text=True, timeout=5)
    assert (ended.returncode, ended.stderr) == (2, f"{named}\n")


@pytest.mark.parametrize("name", ["load", "floor"])
def test_compiles_without_warnings(name: str, tmp_path: Path) -> None:
    """The sources are clean, also by the standard's letter."""
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    command = ["cc", *flags, "-o", str(tmp_path / name), str(SOURCES / f"{name}.c")]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_missing_compiler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a compiler the error says what to install."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BenchError, match="no C compiler 'cc' on PATH"):
        compiled("load")


def test_a_compiler_error_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the compiler has to say is in the error."""
    (tmp_path / "broken.c").write_text("int main(void) { return nothing; }\n")
    monkeypatch.setattr(bench_programs, "SOURCES", tmp_path)
    monkeypatch.setenv("OTS_CACHE", str(tmp_path))
    with pytest.raises(BenchError, match="nothing"):
        compiled("broken")
    assert not list((tmp_path / "open-telephony-stack" / "bench").glob("broken*"))


async def test_a_program_that_fails_tells_its_story(tmp_path: Path) -> None:
    """The error of a program that ends badly holds what it printed."""
    with pytest.raises(BenchError, match=r"it did not end as it should .*3.*\n?.*alas"):
        async with Program(["sh", "-c", "echo alas >&2; exit 3"], tmp_path):
            pass


async def test_cpu_time_is_that_of_the_process(tmp_path: Path) -> None:
    """A program that works is seen to work, one that waits is not, one that is gone is told."""
    own_ns = cpu_ns(os.getpid())
    assert own_ns <= time.process_time_ns() <= own_ns + 10_000_000
    async with Program(["cat"], tmp_path) as idle:
        idle.say("ready")
        await idle.hear()
        pid, before_ns = idle.pid, cpu_ns(idle.pid)
        while time.process_time_ns() < own_ns + 50_000_000:
            pass
        assert cpu_ns(pid) - before_ns < 10_000_000
    with pytest.raises(BenchError, match=f"process {pid}, which is measured, has ended"):
        cpu_ns(pid)
