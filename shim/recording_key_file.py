"""Reads the file of RECORDING_KEY_FILE."""

import stat
from pathlib import Path

from shim.environment import ConfigError
from shim.recording_keys import RecordingKeyError, WrappingKey, parse_keys

ALLOWED = "allowed is a file that only its owner can read, with keys as `openssl rand -base64 32`"


def read(path: str) -> tuple[WrappingKey, ...]:
    """The keys of a file, the one that seals first; raises ConfigError."""
    try:
        mode = Path(path).stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise RecordingKeyError(f"its mode is {stat.S_IMODE(mode):04o}")
        return parse_keys(Path(path).read_text(encoding="ascii").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"RECORDING_KEY_FILE is {path!r}: {reason}; {ALLOWED}") from error
    except RecordingKeyError as error:
        raise ConfigError(f"RECORDING_KEY_FILE is {path!r}: {error}; {ALLOWED}") from error
