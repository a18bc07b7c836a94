"""What a worker records: both sides of its calls, sealed, and never at the cost of audio."""

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shim.control import (
    CallReleased,
    PressDigit,
    ReleaseCall,
    StartCall,
    StartRecording,
    StopRecording,
    StopWorker,
    WorkerStats,
)
from shim.pcmu import SILENT_FRAME
from shim.recording_format import LAST_SUFFIX, Track
from tests.shim import recordings
from tests.shim.asterisk_media import assert_continuous
from tests.shim.harness import CallLeg, WorkerHarness, WorkerProcess
from tests.shim.polling import until
from tests.shim.voice_server import VoiceServer, VoiceStream

PAUSE_S = 0.02
CALLER = bytes(range(160))
AGENT = bytes(reversed(range(160)))


@asynccontextmanager
async def recorder(directory: Path, **environ: str) -> AsyncIterator[WorkerHarness]:
    """Workers that can record."""
    async with WorkerHarness({**recordings.settings(directory), **environ}) as harness:
        yield harness


async def talk(leg: CallLeg, stream: VoiceStream, seconds: float) -> None:
    """Both sides speak, and each has heard all of the other."""
    count = int(seconds / PAUSE_S)
    await stream.play(AGENT * count)
    arrived = stream.payloads().count(CALLER) + count
    heard = leg.asterisk.heard.count(AGENT) + count
    for _ in range(count):
        leg.asterisk.speak(CALLER)
        await asyncio.sleep(PAUSE_S)
    await until(lambda: leg.asterisk.heard.count(AGENT) >= heard, "the caller has heard it")
    await until(lambda: stream.payloads().count(CALLER) >= arrived, "the agent has heard it")


async def obeyed(worker: WorkerProcess, leg: CallLeg, stream: VoiceStream) -> None:
    """The worker has done what it was told so far: a key comes out that went in behind it."""
    pressed = len(stream.of("dtmf")) + 1
    worker.send(PressDigit(leg.call.call_sid, "0"))
    await until(lambda: len(stream.of("dtmf")) == pressed, "the key")


async def ended(worker: WorkerProcess) -> None:
    """Stop a worker: then all is on the disk."""
    worker.send(StopWorker())
    assert await worker.wait_exit() == 0


def recorder_of(worker: WorkerProcess) -> int:
    """The process that writes for a worker (proc(5), children)."""
    pid = worker.process.pid
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii"))


async def test_both_sides(tmp_path: Path) -> None:
    """All that both said is there, at its place, and nothing of it in the clear."""
    directory = tmp_path / "recordings"
    async with recorder(directory) as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url, record=True)
        await talk(leg, await voice.stream(), 1.5)
        harness.end_call(worker, leg)
        await until(lambda: recordings.files(directory, LAST_SUFFIX), "the file's end")
        await ended(worker)
    [path] = recordings.files(directory)
    assert path.name.startswith(leg.call.call_sid)
    assert path.stat().st_mode & 0o777 == 0o600
    found = recordings.runs(path)
    agent = recordings.frames(found, Track.AGENT)
    assert list(agent) == [min(agent) + 160 * number for number in range(len(agent))]
    assert [audio for audio in agent.values() if audio != SILENT_FRAME] == [AGENT] * 75
    sent = [packet.timestamp for packet in leg.asterisk.packets if packet.payload == AGENT]
    first = next(position for position, audio in agent.items() if audio == AGENT)
    assert first == (sent[0] - leg.call.first_timestamp) % (1 << 32)
    assert b"".join(run.audio for run in found if run.track == Track.CALLER) == CALLER * 75
    assert found[-1].track == Track.END
    assert all(audio[:32] not in path.read_bytes() for audio in (CALLER, AGENT, SILENT_FRAME))


async def test_off_by_default(tmp_path: Path) -> None:
    """Who can record does so only when told; start and stop in mid-call make two recordings."""
    directory = tmp_path / "recordings"
    async with recorder(directory) as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        stream = await voice.stream()
        await talk(leg, stream, 0.2)
        for count in (1, 2):
            worker.send(StartRecording(leg.call.call_sid))
            worker.send(StartRecording(leg.call.call_sid))  # it is being recorded already
            await obeyed(worker, leg, stream)
            await talk(leg, stream, 0.2)
            worker.send(StopRecording(leg.call.call_sid))
            await until(lambda n=count: len(recordings.files(directory)) == n, "a recording")  # type: ignore[misc]
            await talk(leg, stream, 0.1)
        harness.end_call(worker, leg)
        await ended(worker)
    first, second = map(recordings.runs, recordings.files(directory, LAST_SUFFIX))
    for found in (first, second):
        assert b"".join(run.audio for run in found if run.track == Track.CALLER) == CALLER * 10
    assert first[-1].position < second[0].position


async def test_without_a_directory() -> None:
    """A worker that can't record says so, and the call goes on."""
    async with WorkerHarness() as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url, record=True)
        await talk(leg, await voice.stream(), 0.2)
        assert worker.log.count("recording_not_configured") == 1


@pytest.mark.parametrize("killed", [True, False])
async def test_another_worker_goes_on(tmp_path: Path, killed: bool) -> None:
    """After SIGKILL at most the last second is missing, after a release nothing; one time line."""
    directory = tmp_path / "recordings"
    async with recorder(directory) as harness, VoiceServer() as voice:
        first = await harness.spawn(0)
        second = await harness.spawn(1)
        leg = harness.connected_call(first, voice.url, record=True)
        await talk(leg, await voice.stream(), 2.5)
        if killed:
            first.kill()
            await first.wait_exit()
        else:
            first.send(ReleaseCall(leg.call.call_sid))
            await first.wait(CallReleased)
        second.send(StartCall(leg.call, resumed=True, media_connected=True), leg.rtp)
        await talk(leg, await voice.stream(1), 0.5)
        harness.end_call(second, leg)
        await ended(second)
        if not killed:
            await ended(first)
    one, two = map(recordings.runs, recordings.files(directory))
    assert one[-1].track != Track.END
    assert two[-1].track == Track.END
    agent = recordings.frames(one, Track.AGENT)
    later = recordings.frames(two, Track.AGENT)
    recorded = [audio for audio in agent.values() if audio == AGENT]
    assert len(recorded) >= (125 - 50 if killed else 125)
    assert max(agent) < min(later)
    sent = {
        (packet.timestamp - leg.call.first_timestamp) % (1 << 32): packet.payload
        for packet in leg.asterisk.packets
    }
    assert all(sent[position] == audio for position, audio in (agent | later).items())


async def test_the_recorder_dies(tmp_path: Path) -> None:
    """Audio is not touched, another one is started, and the recording goes on in a new file."""
    directory = tmp_path / "recordings"
    async with recorder(directory) as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url, record=True)
        stream = await voice.stream()
        await talk(leg, stream, 1.2)
        os.kill(recorder_of(worker), signal.SIGKILL)
        await talk(leg, stream, 1.2)
        await until(lambda: len(recordings.files(directory)) == 2, "a new file")
        harness.end_call(worker, leg)
        await ended(worker)
        assert_continuous(leg.asterisk.packets)
    one, two = map(recordings.runs, recordings.files(directory))
    assert max(recordings.frames(one, Track.AGENT)) < min(recordings.frames(two, Track.AGENT))
    assert two[-1].track == Track.END


async def test_a_slow_disk(tmp_path: Path) -> None:
    """A recorder that stands still for seconds takes all when it goes on: nothing is lost."""
    directory = tmp_path / "recordings"
    async with recorder(directory) as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url, record=True)
        stream = await voice.stream()
        pid = recorder_of(worker)
        os.kill(pid, signal.SIGSTOP)
        await talk(leg, stream, 2.5)
        os.kill(pid, signal.SIGCONT)
        harness.end_call(worker, leg)
        await ended(worker)
        assert_continuous(leg.asterisk.packets)
    [path] = recordings.files(directory, LAST_SUFFIX)
    found = recordings.runs(path)
    assert b"".join(run.audio for run in found if run.track == Track.CALLER) == CALLER * 125


async def test_a_full_disk(tmp_path: Path) -> None:
    """Row 39: audio is not touched, what is lost is counted and said once; later it goes on."""
    directory = tmp_path / "recordings"
    async with recorder(directory) as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url, record=True)
        stream = await voice.stream()
        await talk(leg, stream, 1.2)
        pid = recorder_of(worker)
        limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (20_000, limits[1]))
        await talk(leg, stream, 2.5)
        await until(
            lambda: worker.link.of(WorkerStats)[-1].totals.recording.lost_chunks >= 2,
            "losses are counted",
        )
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
        await talk(leg, stream, 1.2)
        harness.end_call(worker, leg)
        await ended(worker)
        assert worker.log.count("recording_not_written") == 1
        assert_continuous(leg.asterisk.packets)
    [path] = recordings.files(directory)
    numbers = recordings.numbers(path)
    assert numbers != list(range(len(numbers)))
    assert recordings.runs(path)[-1].track == Track.END


async def test_a_full_directory(tmp_path: Path) -> None:
    """With RECORDING_MAX_GB in it nothing is begun any more, which is counted; none is deleted."""
    directory = tmp_path / "recordings"
    async with recorder(directory, RECORDING_MAX_GB="0.000001") as harness, VoiceServer() as voice:
        (directory / "CA0.000000000000.last.rec").write_bytes(bytes(1000))
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url, record=True)
        await talk(leg, await voice.stream(), 1.2)
        await until(
            lambda: any(
                stats.totals.recording.refused == 1 for stats in worker.link.of(WorkerStats)
            ),
            "the refusal is counted",
        )
        harness.end_call(worker, leg)
        await ended(worker)
    assert len(recordings.files(directory)) == 1
