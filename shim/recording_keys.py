"""The keys of recordings: each file has a data key of its own, wrapped by a key that is kept apart.

Pure. A data key is wrapped as in RFC 3394 (AES key wrap), which needs no nonce and notices a wrong
wrapping key. Wrapping keys come from a file, or from AWS KMS (GenerateDataKey): then KMS's own
ciphertext of the key travels with each recording, and only KMS can open it.
"""

import binascii
import hashlib
from base64 import b64decode
from collections.abc import Iterable
from typing import Final

import msgspec
from cryptography.hazmat.primitives import keywrap

KEY_BYTES: Final = 32
"""AES-256."""
_ID_LABEL: Final = b"open-telephony-stack recording key\0"


class RecordingKeyError(ValueError):
    """A text that holds no key, or a key that does not fit a recording."""


class WrappingKey(msgspec.Struct, frozen=True):
    """A key that wraps data keys. `kms_ciphertext`: what KMS opens it from; empty: not of KMS."""

    secret: bytes
    kms_ciphertext: bytes = b""

    @property
    def key_id(self) -> str:
        """Tells keys apart without saying anything of them (a hash, 16 hex digits)."""
        return hashlib.sha256(_ID_LABEL + self.secret).hexdigest()[:16]

    def wrap(self, data_key: bytes) -> bytes:
        """The data key as it may be stored: 40 bytes."""
        return keywrap.aes_key_wrap(self.secret, data_key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """The data key again.

        Raises:
            RecordingKeyError: it was wrapped by another key, or altered.
        """
        try:
            return keywrap.aes_key_unwrap(self.secret, wrapped)
        except (keywrap.InvalidUnwrap, ValueError) as error:
            raise RecordingKeyError(f"the key {self.key_id} does not open it") from error


def decode_key(text: str) -> bytes:
    """A key of 32 bytes in base64, as `openssl rand -base64 32` prints it.

    Raises:
        RecordingKeyError: it is none. The text says how long it is, never what it is.
    """
    try:
        secret = b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RecordingKeyError("it is no base64") from error
    if len(secret) != KEY_BYTES:
        raise RecordingKeyError(f"it has {len(secret)} bytes")
    return secret


def parse_keys(lines: Iterable[str]) -> tuple[WrappingKey, ...]:
    """The keys of a key file, one a line: the first one wraps, all of them unwrap.

    Raises:
        RecordingKeyError: there is none, or a line holds none; it names the line.
    """
    keys = []
    for number, line in enumerate(lines, 1):
        if text := line.strip():
            try:
                keys.append(WrappingKey(decode_key(text)))
            except RecordingKeyError as error:
                raise RecordingKeyError(f"line {number}: {error}") from error
    if not keys:
        raise RecordingKeyError("it is empty")
    return tuple(keys)
