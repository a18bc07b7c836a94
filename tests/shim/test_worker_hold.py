"""Row 37: what the caller hears while a lost voice server is reached again."""

from pathlib import Path

from shim.control import StreamEnded
from shim.pcmu import SILENT_FRAME
from tests.shim.asterisk_media import assert_continuous
from tests.shim.harness import WorkerHarness
from tests.shim.polling import until
from tests.shim.samples import frame
from tests.shim.voice_server import VoiceServer

HOLD = [frame(number) for number in range(100, 150)]


def hold_sound(folder: Path) -> dict[str, str]:
    """The environment with a hold sound of one second."""
    path = folder / "hold.ulaw"
    path.write_bytes(b"".join(HOLD))
    return {"STREAM_HOLD_SOUND": str(path), "STREAM_CONNECT_BUDGET": "5"}


async def test_hold_sound_fills_an_outage(tmp_path: Path) -> None:
    """It begins with the outage, goes round, and stops when there is a stream again."""
    async with WorkerHarness(hold_sound(tmp_path)) as harness:
        worker = await harness.spawn()
        async with VoiceServer() as voice:
            leg = harness.connected_call(worker, voice.url)
            await voice.stream()
            await leg.asterisk.wait_packets(5)
            assert leg.asterisk.heard == b""
        await until(lambda: len(leg.asterisk.heard) >= 60 * 160, "the hold sound, and its repeat")
        assert leg.asterisk.heard.startswith(b"".join(HOLD + HOLD[:10]))
        async with VoiceServer(port=voice.port) as again:
            await again.stream()
            packets = await leg.asterisk.wait_packets(10)
            assert {packet.payload for packet in packets[3:]} == {SILENT_FRAME}
        assert_continuous(leg.asterisk.packets)


async def test_no_hold_sound_before_and_after_a_stream(tmp_path: Path) -> None:
    """Before the first stream, and after one that was closed on purpose, there is silence."""
    async with WorkerHarness(hold_sound(tmp_path)) as harness, VoiceServer() as voice:
        worker = await harness.spawn()
        leg = harness.connected_call(worker, voice.url)
        await leg.asterisk.wait_packets(3)
        await (await voice.stream()).connection.close(1000)
        await worker.wait(StreamEnded)
        await leg.asterisk.wait_packets(10)
        assert leg.asterisk.heard == b""


async def test_no_hold_sound_after_giving_up(tmp_path: Path) -> None:
    """When the budget is spent the sound ends: what comes next is the dialplan's."""
    environ = {**hold_sound(tmp_path), "STREAM_CONNECT_BUDGET": "0.5"}
    async with WorkerHarness(environ) as harness:
        worker = await harness.spawn()
        async with VoiceServer() as voice:
            leg = harness.connected_call(worker, voice.url)
            await voice.stream()
        [ended] = await worker.wait(StreamEnded)
        assert ended.failed
        assert leg.asterisk.heard.startswith(HOLD[0])
        packets = await leg.asterisk.wait_packets(10)
        assert {packet.payload for packet in packets[3:]} == {SILENT_FRAME}
