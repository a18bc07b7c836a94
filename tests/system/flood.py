"""Datagrams that nobody asked for: thousands a second, also in somebody else's name (raw(7))."""

import asyncio
import itertools
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing

Address = tuple[str, int]
BURST_S = 0.01
UDP_HEADER = struct.Struct("!HHHH")
IP_HEADER = struct.Struct("!BBHHHBBH4s4s")


@asynccontextmanager
async def from_elsewhere(
    target: Address, datagram: Callable[[int], bytes], per_second: int
) -> AsyncIterator[None]:
    """Send from another address of this machine. `datagram` makes the n-th one."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.bind(("127.0.0.2", 0))
        async with _sending(lambda number: sock.sendto(datagram(number), target), per_second):
            yield


@asynccontextmanager
async def in_the_name_of(
    source: Address, target: Address, datagram: Callable[[int], bytes], per_second: int
) -> AsyncIterator[None]:
    """Send with a forged source address; needs root."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)) as sock:

        def send(number: int) -> None:
            sock.sendto(_udp_packet(source, target, datagram(number)), (target[0], 0))

        async with _sending(send, per_second):
            yield


@asynccontextmanager
async def _sending(send: Callable[[int], object], per_second: int) -> AsyncIterator[None]:
    task = asyncio.create_task(_keep_sending(send, max(1, round(per_second * BURST_S))))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled(), task.exception()


async def _keep_sending(send: Callable[[int], object], burst: int) -> None:
    """So many each 10 ms, by absolute deadlines."""
    start = time.monotonic()
    for turn in itertools.count():
        for number in range(turn * burst, (turn + 1) * burst):
            send(number)
        await asyncio.sleep(max(0, start + (turn + 1) * BURST_S - time.monotonic()))


def _udp_packet(source: Address, target: Address, payload: bytes) -> bytes:
    """An IPv4 packet (RFC 791, RFC 768); the kernel adds length and checksum, UDP has none."""
    udp = UDP_HEADER.pack(source[1], target[1], UDP_HEADER.size + len(payload), 0) + payload
    hosts = (socket.inet_aton(source[0]), socket.inet_aton(target[0]))
    return IP_HEADER.pack(0x45, 0, 0, 0, 0, 64, socket.IPPROTO_UDP, 0, *hosts) + udp
