"""Calls on disk."""

import asyncio
from pathlib import Path

import pytest

from shim.environment import ConfigError
from supervisor.phone.call_store import CallStore
from supervisor.phone.phone_call import Direction, PhoneCall
from supervisor.phone.phone_record import PhoneRecord, decode, encode
from supervisor.phone.verbs import Bridged, Connect, Dial


async def test_what_is_saved_is_there_after_a_restart(tmp_path: Path) -> None:
    """The latest state counts; what was deleted is gone."""
    store = CallStore(tmp_path)
    running = asyncio.create_task(store.run())
    for number in range(100):
        store.save("CA1", 0.0, b"%d" % number)
    store.save("CA2", 5.0, b"ended")
    store.save("CA3", 0.0, b"deleted")
    store.delete("CA3")
    running.cancel()
    await store.close()
    again = CallStore(tmp_path)
    assert again.load() == [b"99", b"ended"]
    await again.close()


async def test_a_directory_that_cannot_be_had(tmp_path: Path) -> None:
    """The error names the setting."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="STATE_DIR is"):
        CallStore(tmp_path / "file")


def test_a_record_is_the_same_after_a_restart() -> None:
    """Verbs of all kinds come back as what they were."""
    call = PhoneCall("CA1", "AC1", Direction.INBOUND, "+1555", "100", created_at=1.0)
    verbs = (Connect("wss://h", parameters={"k": "v"}), Dial("+1555"), Bridged("CA2"))
    record = PhoneRecord(call, verbs=verbs, at=1, parties=["CA3"])
    assert decode(encode(record)) == record
    assert record.verb == Dial("+1555")
