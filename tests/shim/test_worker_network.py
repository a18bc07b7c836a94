"""A bad network between worker and voice server."""

import random
import time

from loadtest.tcp_proxy import TcpProxy
from shim.control import CallClosed
from tests.shim.asterisk_media import assert_continuous
from tests.shim.harness import WorkerHarness
from tests.shim.polling import until
from tests.shim.voice_server import VoiceServer

FRAMES = 150
LATE_S = 2.0
GROWTH_BYTES = 5_000_000


async def test_slow_and_lossy_network() -> None:
    """Row 28: 100 ± 50 ms, and 5 % lost, which TCP turns into 200 ms more: all arrives, soon."""
    chance = random.Random(28)

    def delay_s() -> float:
        return chance.uniform(0.05, 0.15) + (0.2 if chance.random() < 0.05 else 0.0)

    async with WorkerHarness() as harness, VoiceServer() as voice:
        port = int(voice.url.rsplit(":", 1)[1].split("/")[0])
        async with TcpProxy(("127.0.0.1", port)) as proxy:
            worker = await harness.spawn()
            leg = harness.connected_call(worker, voice.url.replace(str(port), str(proxy.port)))
            stream = await voice.stream()
            before = worker.memory_bytes()
            proxy.delay_s = delay_s
            said = await leg.asterisk.speak_for(FRAMES)
            ended = time.monotonic()
            await until(lambda: len(stream.payloads()) == FRAMES, "all audio")
            assert time.monotonic() - ended < LATE_S
            assert stream.payloads() == said
            assert worker.memory_bytes() - before < GROWTH_BYTES
            assert_continuous(leg.asterisk.packets)
            harness.end_call(worker, leg)
            [closed] = await worker.wait(CallClosed)
            assert (closed.stats.audio_dropped, closed.stats.reconnects) == (0, 0)
