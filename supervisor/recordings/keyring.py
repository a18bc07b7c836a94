"""Opens recordings' data keys: with the keys of RECORDING_KEY_FILE, or by asking AWS KMS.

boto3 finds region and credentials in the process's environment, as its documentation says. It is
loaded only when it is needed, as that takes half a second.
"""

from base64 import b64encode
from collections.abc import Iterable
from typing import Final

from shim.environment import ConfigError
from shim.recording_format import Header
from shim.recording_keys import KEY_BYTES, RecordingKeyError, WrappingKey

CONTEXT: Final = {"purpose": "open-telephony-stack recordings"}
"""KMS's encryption context: a policy can allow this use of a key, and no other."""


class KeyRing:
    """Finds the key that opens a recording."""

    def __init__(self, keys: Iterable[WrappingKey] = ()) -> None:
        self._keys = {key.key_id: key for key in keys}

    def data_key(self, header: Header) -> bytes:
        """A recording's data key.

        Raises:
            RecordingKeyError: no key that is here opens it.
            botocore.exceptions.BotoCoreError, ClientError: KMS can't be asked, or refuses.
        """
        key = self._keys.get(header.key_id)
        if key is None and header.kms_ciphertext:
            key = self._keys[header.key_id] = _from_kms(header.kms_ciphertext)
        if key is None:
            have = ", ".join(self._keys) or "none"
            raise RecordingKeyError(f"it is sealed with the key {header.key_id}, here are: {have}")
        return key.unwrap(header.wrapped_key)


def worker_variables(kms_key_id: str) -> dict[str, str]:
    """A new wrapping key of KMS, as the environment of workers; empty without such a key's id.

    Workers and calls never wait for KMS: one key is used until the supervisor's next start, or
    until SIGHUP. Raises ConfigError.
    """
    if not kms_key_id:
        return {}
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = boto3.client("kms").generate_data_key(
            KeyId=kms_key_id, NumberOfBytes=KEY_BYTES, EncryptionContext=CONTEXT
        )
    except (BotoCoreError, ClientError) as error:
        raise ConfigError(
            f"RECORDING_KMS_KEY_ID is {kms_key_id!r}: {error}; allowed is a key of AWS KMS for "
            "which kms:GenerateDataKey is allowed"
        ) from error
    return {
        "RECORDING_DATA_KEY": b64encode(answer["Plaintext"]).decode(),
        "RECORDING_DATA_KEY_CIPHERTEXT": b64encode(answer["CiphertextBlob"]).decode(),
    }


def _from_kms(ciphertext: bytes) -> WrappingKey:
    import boto3

    answer = boto3.client("kms").decrypt(CiphertextBlob=ciphertext, EncryptionContext=CONTEXT)
    return WrappingKey(answer["Plaintext"], ciphertext)
