"""`python -m supervisor.recordings` as a process, with an S3 of moto's."""

import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from mypy_boto3_s3 import S3Client

from loadtest.stack import free_port
from shim import environment as shim_environment
from shim.config import ShimConfig
from shim.environment import ConfigError
from shim.recording_format import LAST_SUFFIX, Header, Run, Sealer, Track, file_name
from shim.recording_keys import RecordingKeyError, WrappingKey
from supervisor.recordings.keyring import KeyRing, worker_variables
from tests.shim import recordings
from tests.supervisor.s3_server import S3Server

PATIENCE_S = 20.0
SECOND = bytes(range(160)) * 50
BUCKET = "calls-of-tests"
PREFIX = "recordings/"
PART_SECONDS = 530
"""A little more than one part of an upload."""


class Uploader:
    """A process that uploads; its log."""

    def __init__(self, process: "subprocess.Popen[bytes]", log_path: Path) -> None:
        self.process = process
        self._log_path = log_path

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self._log_path.read_text(encoding="utf-8")

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Poll until it is so."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"{what}\n{self.log}"
            time.sleep(0.02)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the recordings of a test are."""
    path = tmp_path / "recordings"
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    """An S3 for all tests of this module."""
    with S3Server() as running:
        yield running


@pytest.fixture
def s3(server: S3Server) -> Iterator[S3Client]:
    """A client, and an empty bucket."""
    client = server.bucket(BUCKET)
    server.parts.clear()
    yield client
    for each in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=each["Key"])
    for upload in client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
        client.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
    client.delete_bucket(Bucket=BUCKET)


def write(
    directory: Path, sid: str, *, seconds: int = 2, start: int = 0, last: bool = True
) -> Path:
    """A recording as a worker writes it: the agent says something all the time."""
    data_key = os.urandom(32)
    header = Header(
        sid,
        "AC1",
        start,
        "2026-01-01T00:00:00Z",
        recordings.KEY.key_id,
        recordings.KEY.wrap(data_key),
    )
    sealer = Sealer(header, data_key)
    path = directory / file_name(sid, start)
    with path.open("wb") as file:
        file.write(sealer.head)
        for second in range(seconds):
            file.write(sealer.seal([Run(Track.AGENT, start + 8000 * second, SECOND)]))
        if last:
            file.write(sealer.seal([Run(Track.END, start + 8000 * seconds, b"")]))
    return path.rename(path.with_suffix(LAST_SUFFIX)) if last else path


def environment(directory: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """What the process needs; nothing of the tests' own environment but PATH."""
    return {"PATH": os.environ["PATH"], **recordings.settings(directory), **settings}


@contextmanager
def uploading(directory: Path, settings: Mapping[str, str]) -> Iterator[Uploader]:
    """An uploader, killed at the end."""
    log_path = directory.with_name("uploader.log")
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "supervisor.recordings"],
            env=environment(directory, {"RECORDING_SETTLE_SECONDS": "1", **settings}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield Uploader(process, log_path)
    finally:
        process.kill()
        process.wait()


def to_s3(server: S3Server) -> dict[str, str]:
    """Settings to upload to the tests' bucket."""
    return {"RECORDING_BUCKET": BUCKET, **server.environment}


def command(
    directory: Path, *arguments: str, **settings: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command of it to its end."""
    return subprocess.run(
        [sys.executable, "-m", "supervisor.recordings", *arguments],
        env=environment(directory, settings),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def objects(s3: S3Client) -> list[str]:
    """The keys in the bucket."""
    return [each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def is_empty(directory: Path) -> bool:
    """Whether nothing is left there, sidecars neither."""
    return not any(directory.iterdir())


def stereo(seconds: int) -> bytes:
    """The samples of such a recording: the caller is silent."""
    return bytes(value for agent in SECOND for value in (0xFF, agent)) * seconds


def test_what_is_over_is_uploaded(directory: Path, server: S3Server, s3: S3Client) -> None:
    """One WAV per recording, encrypted by KMS, with its hash; then it is deleted here."""
    key_id: str = server.client("kms").create_key()["KeyMetadata"]["KeyId"]
    write(directory, "CA1", last=False)
    write(directory, "CA1", start=16_800)
    write(directory, "CA2", last=False)  # its worker and its successor are dead
    settings = {**to_s3(server), "RECORDING_KMS_KEY_ID": key_id}
    with uploading(directory, settings) as uploader:
        uploader.until(lambda: is_empty(directory), "uploaded and deleted")
        uploader.process.terminate()
        assert uploader.process.wait(PATIENCE_S) == 0
        assert uploader.log.count("recording_uploaded") == 2
    first, second = (f"{PREFIX}{sid}.000000000000.wav" for sid in ("CA1", "CA2"))
    assert objects(s3) == [first, second]
    head = s3.head_object(Bucket=BUCKET, Key=first)
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", key_id)
    meta = head["Metadata"]
    assert (meta["seconds"], meta["gaps"], meta["gap-ms"]) == ("4.100", "1", "100")
    assert (meta["call-sid"], meta["complete"]) == ("CA1", "true")
    assert s3.head_object(Bucket=BUCKET, Key=second)["Metadata"]["complete"] == "false"
    body = s3.get_object(Bucket=BUCKET, Key=first)["Body"].read()
    assert body[58:] == stereo(2) + b"\xff" * 1600 + stereo(2)


def test_what_goes_on_is_left_alone(directory: Path, server: S3Server, s3: S3Client) -> None:
    """A file that a worker has locked stays, whatever its age; the others are uploaded."""
    going_on = write(directory, "CA1", last=False)
    os.utime(going_on, (0, 0))
    with going_on.open("rb") as file, uploading(directory, to_s3(server)) as uploader:
        fcntl.flock(file, fcntl.LOCK_EX)
        write(directory, "CA2")
        uploader.until(lambda: objects(s3), "the other one is uploaded")
        uploader.until(lambda: list(directory.iterdir()) == [going_on], "and deleted")
        file.close()
        uploader.until(lambda: is_empty(directory), "and now this one too")


def test_killed_in_the_middle(directory: Path, server: S3Server, s3: S3Client) -> None:
    """After SIGKILL the next one goes on: no part is sent twice, nothing in clear on the disk."""
    write(directory, "CA1", seconds=3 * PART_SECONDS)
    server.hold_from_part(3)
    with uploading(directory, to_s3(server)) as uploader:
        uploader.until(server.holding.is_set, "the third part comes")
        uploader.process.kill()
        uploader.process.wait()
    server.go_on()
    [sidecar] = (path for path in directory.iterdir() if path.suffix == ".upload")
    assert objects(s3) == []
    for path in directory.iterdir():
        assert SECOND[:40] not in path.read_bytes()
    with uploading(directory, to_s3(server)) as uploader:
        uploader.until(lambda: is_empty(directory), "uploaded and deleted")
    assert not sidecar.exists()
    assert sorted(server.parts) == [1, 2, 3, 4]
    [key] = objects(s3)
    body = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    assert body[58:] == stereo(3 * PART_SECONDS)


def test_killed_before_it_was_deleted(directory: Path, server: S3Server, s3: S3Client) -> None:
    """What S3 has already is not sent again, only deleted here."""
    path = write(directory, "CA1")
    content = path.read_bytes()
    for _ in range(2):
        with uploading(directory, to_s3(server)) as uploader:
            uploader.until(lambda: is_empty(directory), "uploaded and deleted")
        path.write_bytes(content)
    assert server.parts == [1]


def test_an_upload_that_expired(directory: Path, server: S3Server, s3: S3Client) -> None:
    """A bucket's rules may abort uploads: then it begins anew."""
    write(directory, "CA1")
    server.hold_from_part(1)
    with uploading(directory, to_s3(server)) as uploader:
        uploader.until(server.holding.is_set, "a part comes")
    [upload] = s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]
    s3.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
    server.go_on()
    with uploading(directory, to_s3(server)) as uploader:
        uploader.until(lambda: is_empty(directory), "uploaded and deleted")


def test_s3_is_away(directory: Path) -> None:
    """Nothing is deleted meanwhile, and when it is there again all is uploaded."""
    port = free_port(socket.SOCK_STREAM)
    names = [write(directory, f"CA{number}").name for number in range(3)]
    with S3Server(port) as server:
        settings = to_s3(server)
        s3 = server.bucket("not-this-one")
    with uploading(directory, settings) as uploader:
        uploader.until(lambda: "recordings_failed" in uploader.log, "it fails")
        assert sorted(path.name for path in directory.iterdir()) == names
        with S3Server(port) as server:
            s3 = server.bucket(BUCKET)
            uploader.until(lambda: is_empty(directory), "uploaded and deleted")
            assert len(objects(s3)) == 3
            for key in objects(s3):
                s3.delete_object(Bucket=BUCKET, Key=key)
            s3.delete_bucket(Bucket=BUCKET)


def test_what_cannot_be_opened(directory: Path, server: S3Server, s3: S3Client) -> None:
    """One that was altered, and one of another key, are said once and kept; others go on."""
    altered = write(directory, "CA1")
    data = bytearray(altered.read_bytes())
    data[len(data) // 2] ^= 1
    altered.write_bytes(data)
    with uploading(directory, to_s3(server)) as uploader:
        uploader.until(lambda: "was altered" in uploader.log, "it is said")
        write(directory, "CA2")
        uploader.until(lambda: objects(s3), "the other one is uploaded")
        uploader.until(lambda: list(directory.iterdir()) == [altered], "and deleted")
        assert uploader.log.count("recording_unreadable") == 1


def test_export_and_list(directory: Path, tmp_path: Path) -> None:
    """A recording is decrypted by its call's name, into a file of its owner; the log says so."""
    write(directory, "CA1")
    listed = command(directory, "list")
    assert "CA1.000000000000" in listed.stdout
    assert "over" in listed.stdout
    path = tmp_path / "call.wav"
    done = command(directory, "export", "CA1", str(path))
    assert done.returncode == 0, done.stderr
    assert path.read_bytes()[58:] == stereo(2)
    assert path.stat().st_mode & 0o777 == 0o600
    assert '"event":"recording_exported"' in done.stderr.replace(" ", "")
    again = command(directory, "export", "CA1", str(path))
    assert again.returncode == 1
    unknown = command(directory, "export", "CA9", str(tmp_path / "other.wav"))
    assert "'CA9' has to be one recording, there are: none" in unknown.stderr


def test_old_ones_without_a_bucket(directory: Path) -> None:
    """They are kept RECORDING_KEEP_DAYS, and only what is older is deleted."""
    old, new = write(directory, "CA1"), write(directory, "CA2")
    os.utime(old, (time.time() - 2 * 86_400,) * 2)
    with uploading(directory, {"RECORDING_KEEP_DAYS": "1"}) as uploader:
        uploader.until(lambda: "recording_expired" in uploader.log, "the old one is deleted")
    assert list(directory.iterdir()) == [new]


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"RECORDING_DIR": "/nowhere"}, "RECORDING_DIR is '/nowhere', allowed is a directory"),
        ({"RECORDING_KEY_FILE": "/nowhere"}, "RECORDING_KEY_FILE is '/nowhere': No such file"),
        ({"RECORDING_KEY_FILE": "/etc/passwd"}, "its mode is 0644"),
        ({"RECORDING_BUCKET": "b", "RECORDING_KEEP_DAYS": "1"}, "RECORDING_KEEP_DAYS is 1, but"),
        ({"S3_ENDPOINT_URL": "http://10.0.0.1"}, "S3_ENDPOINT_URL is 'http://10.0.0.1', allowed"),
    ],
)
def test_bad_settings(directory: Path, settings: dict[str, str], what: str) -> None:
    """One line that names the setting, and the exit code that says that it won't get better."""
    refused = command(directory, "list", **settings)
    assert refused.returncode == os.EX_CONFIG
    assert what in refused.stderr
    assert "Traceback" not in refused.stderr


def test_one_uploader_per_directory(directory: Path) -> None:
    """A second one says so and ends."""
    with uploading(directory, {}) as uploader:
        uploader.until(lambda: "recordings_started" in uploader.log, "it has started")
        second = command(directory)
    assert second.returncode == os.EX_CONFIG
    assert "another process uploads from there" in second.stderr


def test_keys_of_kms(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers get a key, and its ciphertext, which only KMS opens; a wrong id stops the start."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    key_id: str = server.client("kms").create_key()["KeyMetadata"]["KeyId"]
    variables = {"RECORDING_DIR": "/tmp", **worker_variables(key_id)}
    recording = shim_environment.read(ShimConfig, variables).recording_settings()
    assert recording is not None
    key = recording.key
    assert "RECORDING_DATA_KEY" not in str(key.kms_ciphertext)
    data_key = bytes(32)
    header = Header("CA1", "AC1", 0, "", key.key_id, key.wrap(data_key), key.kms_ciphertext)
    assert KeyRing().data_key(header) == data_key
    with pytest.raises(ConfigError, match=r"RECORDING_KMS_KEY_ID is 'unknown': .*NotFound"):
        worker_variables("unknown")


def test_the_key_ring() -> None:
    """Old keys of the file open old recordings; without its key a recording stays shut."""
    old, new = WrappingKey(bytes(32)), WrappingKey(bytes([1]) * 32)
    header = Header("CA1", "AC1", 0, "", old.key_id, old.wrap(bytes(32)))
    assert KeyRing([new, old]).data_key(header) == bytes(32)
    with pytest.raises(RecordingKeyError, match=f"sealed with the key {old.key_id}, here are: "):
        KeyRing([new]).data_key(header)
