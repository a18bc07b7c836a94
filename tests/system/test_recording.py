"""Recording on the whole system, with the real Asterisk and an S3 beside it."""

import asyncio
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loadtest import audio, recording
from loadtest.phone_plan import CallRecord
from shim.recording_format import Track
from tests.shim import recordings
from tests.supervisor.s3_server import S3Server
from tests.supervisor.stack import RunningStack

BUCKET = "calls-of-the-system"
TONE_HZ = 700.0
QUIET_S = 4.0
"""Long enough for the agent's greeting to be over."""
TONE_S = 1.0
MS = 8
"""Samples."""
ALIGNED_MS = 40.0


@contextmanager
def uploading(settings: dict[str, str]) -> Iterator[None]:
    """An uploader, ended by SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor.recordings"], env={**os.environ, **settings}
    )
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(10) == 0


def sides(wav: bytes) -> tuple[audio.Pcm, audio.Pcm]:
    """Left and right of a µ-law WAV."""
    assert struct.unpack_from("<HHI", wav, 20) == (7, 2, 8000)
    return audio.decode(wav[58::2]), audio.decode(wav[59::2])


def first_sound_ms(pcm: audio.Pcm) -> float:
    """When the first frame with sound in it begins, from the start."""
    frames = pcm[: len(pcm) // 160 * 160].reshape(-1, 160).astype(float)
    loud = (frames**2).mean(axis=1) ** 0.5 > recording.SILENCE_RMS
    assert loud.any(), "there is no sound"
    return float(loud.argmax()) * 20.0


def apart_ms(record: CallRecord) -> float:
    """By the phone's clock: how long after the greeting's start the caller has said its tone."""
    heard_ns = recording.first_sound_ns(record.packets)
    assert heard_ns is not None
    assert record.first_sent_ns is not None
    return (record.first_sent_ns - heard_ns) / 1e6 + QUIET_S * 1000


@pytest.mark.asterisk
async def test_both_sides_of_a_call(asterisk_rootfs: Path, tmp_path: Path) -> None:
    """Caller left, agent right, aligned as the phone heard it, in S3 and not on the disk."""
    directory = tmp_path / "recordings"
    plan_audio = audio.silence(QUIET_S) + audio.tone(TONE_HZ, TONE_S)
    settings = {"RECORD_CALLS": "true", **recordings.settings(directory)}
    with (
        S3Server() as server,
        RunningStack(real=True, settings=settings) as stack,
        uploading({**settings, "RECORDING_BUCKET": BUCKET, **server.environment}),
    ):
        s3 = server.bucket(BUCKET)
        record = await stack.call(audio=plan_audio, seconds=QUIET_S + TONE_S + 3)
        await stack.until(lambda: not list(directory.iterdir()), "uploaded and deleted here")
        [listed] = s3.list_objects_v2(Bucket=BUCKET)["Contents"]
        head = s3.head_object(Bucket=BUCKET, Key=listed["Key"])
        wav = s3.get_object(Bucket=BUCKET, Key=listed["Key"])["Body"].read()
        await stack.until_idle()
    assert head["ServerSideEncryption"] == "aws:kms"
    assert (head["Metadata"]["complete"], head["Metadata"]["gaps"]) == ("true", "0")
    caller, agent = sides(wav)
    assert recording.hears_only(caller, TONE_HZ)
    assert recording.power_share(agent[int((QUIET_S + TONE_S) * 8000) :], TONE_HZ) > 0.5
    recorded_ms = first_sound_ms(caller) - first_sound_ms(agent)
    assert abs(recorded_ms - apart_ms(record)) <= ALIGNED_MS


@pytest.mark.asterisk
async def test_a_worker_dies_in_the_middle(asterisk_rootfs: Path, tmp_path: Path) -> None:
    """Another one goes on: at most the last second is missing, and both files are one recording."""
    directory = tmp_path / "recordings"
    settings = {"RECORD_CALLS": "true", **recordings.settings(directory)}
    with RunningStack(real=True, settings=settings) as stack:
        async with stack.calling(audio=audio.tone(TONE_HZ, 1.0), audio_loop=True) as call:
            await stack.until(lambda: has_chunks(directory, 2), "two seconds are recorded")
            busy = next(worker for worker in stack.workers() if worker["calls"])
            stack.kill_worker(busy["worker"])
            await stack.until(lambda: len(recordings.files(directory)) == 2, "a second file")
            await stack.until_audio(call)
        await stack.until_idle()
        await stack.until(
            lambda: recordings.files(directory, ".last.rec"), "the recording's end is marked"
        )
    first, second = map(recordings.runs, recordings.files(directory))
    before, after = (recordings.frames(found, Track.AGENT) for found in (first, second))
    assert 0 < min(after) - max(before) < 2500 * MS
    for found in (first, second):
        said = b"".join(run.audio for run in found if run.track == Track.CALLER)
        assert recording.power_share(audio.decode(said), TONE_HZ) > 0.9
    exported = tmp_path / "call.wav"
    sid = recordings.files(directory)[0].name.partition(".")[0]
    command = [sys.executable, "-m", "supervisor.recordings", "export", sid, str(exported)]
    process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **settings})
    assert await process.wait() == 0
    caller, _ = sides(exported.read_bytes())
    assert recording.hears_only(caller, TONE_HZ)


def has_chunks(directory: Path, count: int) -> bool:
    """Whether so many chunks of a recording are written."""
    return any(len(recordings.numbers(path)) >= count for path in recordings.files(directory))
