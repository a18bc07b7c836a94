"""A worker's settings: what the supervisor's environment says about streams.

Workers inherit the environment of the supervisor, secrets included, so that none of it shows
in a command line.
"""

import os
import ssl
from base64 import b64decode
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from shim import recording_key_file
from shim.call_session import StreamSettings
from shim.environment import ConfigError
from shim.link_opener import LinkSettings
from shim.pcmu import BYTES_PER_MS, FRAME_BYTES
from shim.playout import Playout
from shim.recording_keys import WrappingKey, decode_key
from shim.recording_settings import RecordingSettings

MIN_HOLD_BYTES: Final = FRAME_BYTES
MAX_HOLD_BYTES: Final = 10 * 60 * 1000 * BYTES_PER_MS
GB: Final = 1_000_000_000
Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]


class ShimConfig(msgspec.Struct, frozen=True):
    """Read from the environment by `environment.read`; the field `x` is the variable `X`."""

    run_dir: str = ""
    log_format: Literal["json", "text"] = "json"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    core_dumps: bool = False
    """Whether the kernel may write a crashed process's memory to a file."""
    worker_nice: Annotated[int, msgspec.Meta(ge=-20, le=19)] = -10
    """Priority of a worker's process (setpriority(2)), where the user may raise it."""
    orphan_grace: Seconds = 60
    """How long a worker serves its calls without a supervisor, in seconds."""
    stream_handshake_timeout: Seconds = 10
    """Some bots accept the WebSocket only when their own model answers: allow them 10 s."""
    stream_connect_budget: Seconds = 12
    """For all tries to reach the voice server, at the start and again in each outage."""
    stream_max_message_bytes: Annotated[int, msgspec.Meta(ge=4096, le=64 * 1024 * 1024)] = 1 << 20
    """A larger message closes the WebSocket with 1009. 1 MiB is 98 s of audio."""
    stream_buffer_seconds: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 600
    """Audio that may wait to be played, per call; Twilio's limit is 10 minutes too."""
    stream_hold_sound: str = ""
    """File of raw µ-law at 8 kHz, heard while a lost voice server is reached again."""
    stream_ca_file: str = ""
    """CA bundle for the voice server's certificate; empty: the system's."""
    stream_client_cert: str = ""
    """PEM file with certificate and key, shown to the voice server; empty: none."""
    stream_bearer_token: str = ""
    recording_dir: str = ""
    """Where recordings are kept until they are uploaded; empty: nothing can be recorded."""
    recording_key_file: str = ""
    """What seals them: a file with keys, 32 bytes in base64, of which the first one seals."""
    recording_data_key: str = ""
    """The same from AWS KMS: set by the supervisor, with what KMS opens it from."""
    recording_data_key_ciphertext: str = ""
    recording_max_gb: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] = 20
    """With so much in RECORDING_DIR no new recording is begun."""
    twilio_auth_token: str = ""
    """Signs the handshake (X-Twilio-Signature); empty: not signed."""

    def link_settings(self) -> LinkSettings:
        """What the opening of links needs of this."""
        return LinkSettings(
            handshake_timeout_s=self.stream_handshake_timeout,
            max_message_bytes=self.stream_max_message_bytes,
            auth_token=self.twilio_auth_token,
            bearer_token=self.stream_bearer_token,
        )

    def stream_settings(self) -> StreamSettings:
        """What call sessions need of this; raises ConfigError."""
        return StreamSettings(
            self.stream_connect_budget, self.stream_buffer_seconds * 1000, self._hold_frames()
        )

    def recording_settings(self) -> RecordingSettings | None:
        """Where and how to record; None: not at all. Raises ConfigError."""
        if not self.recording_dir:
            return None
        directory = Path(self.recording_dir)
        if not (directory.is_dir() and os.access(directory, os.R_OK | os.W_OK | os.X_OK)):
            raise ConfigError(
                f"RECORDING_DIR is {self.recording_dir!r}, allowed is a directory to write in"
            )
        max_bytes = int(self.recording_max_gb * GB)
        return RecordingSettings(directory, self._recording_key(), max_bytes)

    def _recording_key(self) -> WrappingKey:
        if self.recording_data_key:
            try:
                ciphertext = b64decode(self.recording_data_key_ciphertext)
                return WrappingKey(decode_key(self.recording_data_key), ciphertext)
            except ValueError as error:
                raise ConfigError(f"RECORDING_DATA_KEY is (hidden): {error}") from error
        if not self.recording_key_file:
            raise ConfigError(
                f"RECORDING_DIR is {self.recording_dir!r}, but nothing seals what is recorded; "
                "allowed is that with RECORDING_KEY_FILE or RECORDING_KMS_KEY_ID"
            )
        return recording_key_file.read(self.recording_key_file)[0]

    def _hold_frames(self) -> tuple[bytes, ...]:
        if not self.stream_hold_sound:
            return ()
        try:
            sound = Path(self.stream_hold_sound).read_bytes()
        except OSError as error:
            raise ConfigError(
                f"STREAM_HOLD_SOUND is {self.stream_hold_sound!r}: {error.strerror}"
            ) from error
        if not MIN_HOLD_BYTES <= len(sound) <= MAX_HOLD_BYTES:
            raise ConfigError(
                f"STREAM_HOLD_SOUND is {self.stream_hold_sound!r}: {len(sound)} bytes, allowed are "
                f"{MIN_HOLD_BYTES} to {MAX_HOLD_BYTES} bytes of raw µ-law"
            )
        playout = Playout()
        playout.push(sound)
        frames = (playout.pull() for _ in range(-(-len(sound) // FRAME_BYTES)))
        return tuple(frame for frame in frames if frame is not None)


def tls_context(config: ShimConfig) -> ssl.SSLContext:
    """TLS towards voice servers: verified, 1.2 or newer.

    Raises:
        ConfigError: a file can't be read, or is no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=config.stream_ca_file or None)
    except OSError as error:
        raise ConfigError(f"STREAM_CA_FILE is {config.stream_ca_file!r}: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if config.stream_client_cert:
        try:
            context.load_cert_chain(Path(config.stream_client_cert))
        except OSError as error:
            what = f"STREAM_CLIENT_CERT is {config.stream_client_cert!r}: {error}"
            raise ConfigError(what) from error
    return context
