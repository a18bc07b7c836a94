"""Uploads one recording to S3: in parts, and from where an earlier try has left off.

A part's bytes are the same in every try, so a part that S3 has is not sent again. The upload's id
is kept in a file beside the recording. Nothing unencrypted is on the disk: parts are made of what
is decrypted in memory, 8 MiB at a time.
"""

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog
from botocore.exceptions import ClientError

from supervisor.recordings.store import OpenRecording, StoredRecording
from supervisor.recordings.timeline import Survey, parts

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

log = structlog.get_logger()

PART_BYTES: Final = 8 * 1024 * 1024
"""About 9 minutes. S3 wants 5 MiB at least, and 10,000 parts at most: that is 60 days."""
SIDECAR_SUFFIX: Final = ".upload"
GONE: Final = frozenset({"404", "NoSuchKey", "NoSuchUpload", "NotFound"})


class NotConfirmedError(Exception):
    """S3 has something else than what was sent."""


class Target(msgspec.Struct, frozen=True):
    """Where recordings go. `kms_key_id`: what S3 encrypts with; empty: the account's `aws/s3`."""

    bucket: str
    prefix: str
    kms_key_id: str


class Sidecar(msgspec.Struct, frozen=True):
    """An upload that was begun, as it stands in the file beside the recording."""

    upload_id: str
    bucket: str
    key: str
    sha256: str


class Upload:
    """One recording on its way to S3.

    Args:
        recording, content: the recording, and what is in it.
        sidecar: where the upload's id is kept.

    All methods raise botocore's BotoCoreError and ClientError, OSError, and what `content` raises.
    """

    def __init__(
        self, s3: "S3Client", target: Target, recording: StoredRecording, content: OpenRecording
    ) -> None:
        self._s3 = s3
        self._target = target
        self._content = content
        self._name = recording.name
        self._sidecar = recording.files[0].with_name(recording.name + SIDECAR_SUFFIX)
        self.key = f"{target.prefix}{recording.name}.wav"
        self.seen: Survey = content.survey()

    def run(self) -> None:
        """Upload, unless it is there already; returns when S3 has confirmed all of it.

        Raises:
            NotConfirmedError: what S3 has differs; the next try begins anew.
        """
        digests = [hashlib.sha256(part).digest() for part in self._parts()]
        if not self._is_there(digests):
            upload_id, have = self._begin_or_resume()
            self._send(upload_id, digests, have)
            if not self._is_there(digests):
                self._sidecar.unlink(missing_ok=True)
                raise NotConfirmedError(f"s3://{self._target.bucket}/{self.key} is not what it was")
        self._sidecar.unlink(missing_ok=True)

    def _parts(self) -> Iterator[bytes]:
        return parts(self._content.wav(self.seen), PART_BYTES)

    def _begin_or_resume(self) -> tuple[str, dict[int, str]]:
        """An upload's id, and the ETags of the parts that S3 has of it."""
        if (sidecar := self._read_sidecar()) is not None:
            try:
                have = self._listed(sidecar.upload_id)
            except ClientError as error:
                if _code(error) not in GONE:
                    raise
            else:
                log.info("upload_resumed", recording=self._name, parts=len(have))
                return sidecar.upload_id, have
        upload_id = self._create()
        sidecar = Sidecar(upload_id, self._target.bucket, self.key, self.seen.sha256)
        unfinished = self._sidecar.with_suffix(".unfinished")
        unfinished.write_bytes(msgspec.json.encode(sidecar))
        unfinished.rename(self._sidecar)
        return upload_id, {}

    def _read_sidecar(self) -> Sidecar | None:
        """The upload that was begun, if it is of these bytes to that place."""
        try:
            sidecar = msgspec.json.decode(self._sidecar.read_bytes(), type=Sidecar)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        wanted = (self._target.bucket, self.key, self.seen.sha256)
        return sidecar if (sidecar.bucket, sidecar.key, sidecar.sha256) == wanted else None

    def _create(self) -> str:
        seen, header = self.seen, self._content.header
        encryption: dict[str, Any] = {"ServerSideEncryption": "aws:kms"}
        if self._target.kms_key_id:
            encryption["SSEKMSKeyId"] = self._target.kms_key_id
        created = self._s3.create_multipart_upload(
            Bucket=self._target.bucket,
            Key=self.key,
            ContentType="audio/wav",
            ChecksumAlgorithm="SHA256",
            Metadata={
                "call-sid": header.call_sid,
                "started-at": header.started_at,
                "seconds": f"{seen.seconds:.3f}",
                "sha256": seen.sha256,
                "gaps": str(seen.gaps),
                "gap-ms": str(seen.gap_ms),
                "complete": str(seen.complete).lower(),
            },
            **encryption,
        )
        return created["UploadId"]

    def _listed(self, upload_id: str) -> dict[int, str]:
        pages = self._s3.get_paginator("list_parts").paginate(
            Bucket=self._target.bucket, Key=self.key, UploadId=upload_id
        )
        return {
            part["PartNumber"]: part["ETag"] for page in pages for part in page.get("Parts", [])
        }

    def _send(self, upload_id: str, digests: list[bytes], have: dict[int, str]) -> None:
        """Send the parts that are missing, and put all of them together.

        S3 checks each part's SHA-256, both as it arrives and when they are put together.
        """
        bucket = self._target.bucket
        listed: list[CompletedPartTypeDef] = []
        for number, (part, digest) in enumerate(zip(self._parts(), digests, strict=True), 1):
            checksum = b64encode(digest).decode()
            etag = have.get(number)
            if etag is None:
                sent = self._s3.upload_part(
                    Bucket=bucket,
                    Key=self.key,
                    UploadId=upload_id,
                    PartNumber=number,
                    Body=part,
                    ChecksumSHA256=checksum,
                )
                etag = sent["ETag"]
            listed.append({"PartNumber": number, "ETag": etag, "ChecksumSHA256": checksum})
        self._s3.complete_multipart_upload(
            Bucket=bucket, Key=self.key, UploadId=upload_id, MultipartUpload={"Parts": listed}
        )

    def _is_there(self, digests: list[bytes]) -> bool:
        """Whether S3 has exactly these bytes.

        S3 says the hash of the parts' hashes ("Checking object integrity"). What stores in its
        place say may differ: then the object is read back.
        """
        try:
            head = self._s3.head_object(
                Bucket=self._target.bucket, Key=self.key, ChecksumMode="ENABLED"
            )
        except ClientError as error:
            if _code(error) in GONE:
                return False
            raise
        if head["ContentLength"] != self.seen.size_bytes:
            return False
        composite = b64encode(hashlib.sha256(b"".join(digests)).digest()).decode()
        if head.get("ChecksumSHA256") == f"{composite}-{len(digests)}":
            return True
        return self._read_back() == self.seen.sha256

    def _read_back(self) -> str:
        digest = hashlib.sha256()
        body = self._s3.get_object(Bucket=self._target.bucket, Key=self.key)["Body"]
        for piece in body.iter_chunks(PART_BYTES):
            digest.update(piece)
        return digest.hexdigest()


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
