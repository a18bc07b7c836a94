"""The settings of the process that looks after recordings, from the environment."""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from shim.environment import ConfigError, without_secrets

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class RecordingsConfig(msgspec.Struct, frozen=True):
    """Read from the environment by `environment.read`; the field `x` is the variable `X`."""

    recording_dir: str
    """Where workers keep recordings."""
    recording_key_file: str = ""
    """What opens them: each line a key; not needed for those that AWS KMS opens."""
    recording_kms_key_id: str = ""
    """The key of AWS KMS that S3 encrypts with; empty: the account's own for S3."""
    recording_bucket: str = ""
    """Where recordings are uploaded to; empty: they stay here."""
    recording_prefix: str = "recordings/"
    recording_settle_seconds: Annotated[float, msgspec.Meta(ge=1, le=86400)] = 120
    """A recording whose end nobody has marked is over when no worker has it for so long."""
    recording_keep_days: Annotated[float, msgspec.Meta(ge=0, le=36500)] = 0
    """Without a bucket recordings are deleted after so many days; 0: never."""
    s3_endpoint_url: str = ""
    """A store that speaks S3; empty: AWS."""
    allow_unencrypted: bool = False
    core_dumps: bool = False
    """Whether the kernel may write a crashed process's memory, with keys and audio."""
    log_format: Literal["json", "text"] = "json"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


def check(config: RecordingsConfig) -> None:
    """Check what its type doesn't say; raises ConfigError."""
    if not Path(config.recording_dir).is_dir():
        raise ConfigError(f"RECORDING_DIR is {config.recording_dir!r}, allowed is a directory")
    if config.recording_bucket and config.recording_keep_days:
        raise ConfigError(
            f"RECORDING_KEEP_DAYS is {config.recording_keep_days:g}, but RECORDING_BUCKET is set; "
            "allowed is one of them, as what is uploaded is deleted here when S3 has confirmed it"
        )
    if config.s3_endpoint_url and not config.allow_unencrypted:
        url = urlsplit(config.s3_endpoint_url)
        if url.scheme != "https" and not (url.scheme == "http" and url.hostname in LOOPBACK):
            raise ConfigError(
                f"S3_ENDPOINT_URL is {without_secrets(config.s3_endpoint_url)!r}, allowed is "
                "https://, or http:// to this machine, or ALLOW_UNENCRYPTED=true"
            )
