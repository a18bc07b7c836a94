"""The benchmark's textbook worker: what one writes when one reads how RTP and WebSockets work.

    python -m loadtest.bench_textbook CALLS FIRST_PORT PEER_PORT URL [CA_FILE]

asyncio, `websockets`, `json`, and per call three loops: RTP in, messages in, and one that sends a
frame and sleeps 20 ms. Sleeping relative times makes it drift: it sends less than 50 frames per
second. It is here to be compared with, so it stays as it is. Call i has the UDP port
127.0.0.1:FIRST_PORT+i and the peer PEER_PORT+i. Prints "ready" when all WebSockets are open, and
ends with its stdin.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import struct
import sys
from base64 import b64decode, b64encode
from typing import Final

import websockets
from websockets.asyncio.client import ClientConnection

from loadtest.bench_programs import raise_fd_limit

HEADER: Final = struct.Struct("!BBHII")
FRAME_BYTES: Final = 160
PTIME_S: Final = 0.02
SILENCE: Final = b"\xff" * FRAME_BYTES


class TextbookCall:
    """One call with its UDP socket, its WebSocket and a buffer in between."""

    def __init__(self, number: int, first_port: int, peer_port: int) -> None:
        self._stream_sid = f"MZ{number:032x}"
        self._peer = ("127.0.0.1", peer_port + number)
        self._ssrc = number + 1
        self._buffer = bytearray()
        self._rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._rtp.setblocking(False)
        self._rtp.bind(("127.0.0.1", first_port + number))
        self._websocket: ClientConnection

    async def open(self, url: str, tls: ssl.SSLContext | None) -> None:
        """Connect to the voice server, and announce the stream."""
        self._websocket = await websockets.connect(url, ssl=tls, compression=None)
        start = {"event": "start", "sequenceNumber": "1", "streamSid": self._stream_sid}
        await self._websocket.send(json.dumps(start))

    async def run(self) -> None:
        """Serve the call until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hear())
            group.create_task(self._listen())
            group.create_task(self._speak())

    async def _hear(self) -> None:
        loop = asyncio.get_running_loop()
        chunk = 0
        while True:
            datagram = await loop.sock_recv(self._rtp, 2048)
            chunk += 1
            message = {
                "event": "media",
                "sequenceNumber": str(chunk + 1),
                "streamSid": self._stream_sid,
                "media": {
                    "track": "inbound",
                    "chunk": str(chunk),
                    "timestamp": str(chunk * 20),
                    "payload": b64encode(datagram[HEADER.size :]).decode(),
                },
            }
            await self._websocket.send(json.dumps(message, separators=(",", ":")))

    async def _listen(self) -> None:
        async for text in self._websocket:
            message = json.loads(text)
            if message["event"] == "media":
                self._buffer += b64decode(message["media"]["payload"])

    async def _speak(self) -> None:
        sequence = 0
        while True:
            await asyncio.sleep(PTIME_S)
            frame = SILENCE
            if len(self._buffer) >= FRAME_BYTES:
                frame = bytes(self._buffer[:FRAME_BYTES])
                del self._buffer[:FRAME_BYTES]
            timestamp = sequence * FRAME_BYTES & 0xFFFFFFFF
            header = HEADER.pack(0x80, 0, sequence & 0xFFFF, timestamp, self._ssrc)
            self._rtp.sendto(header + frame, self._peer)
            sequence += 1


async def serve(count: int, first_port: int, peer_port: int, url: str, ca_file: str) -> None:
    """Serve so many calls until stdin is at its end."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    tls = ssl.create_default_context(cafile=ca_file) if ca_file else None
    calls = [TextbookCall(number, first_port, peer_port) for number in range(count)]
    for call in calls:
        await call.open(url, tls)
    running = [asyncio.create_task(call.run()) for call in calls]
    print("ready", flush=True)
    await asyncio.wait(
        [asyncio.create_task(ended.wait()), *running], return_when=asyncio.FIRST_COMPLETED
    )
    for task in running:
        if task.done():
            task.result()  # raises what has ended it


def main() -> None:
    """The command line."""
    count, first_port, peer_port, url, *ca_file = sys.argv[1:]
    raise_fd_limit()
    asyncio.run(
        serve(int(count), int(first_port), int(peer_port), url, ca_file[0] if ca_file else "")
    )
    # The calls' loops have been cancelled; closing hundreds of WebSockets politely is no use.
    os._exit(0)


if __name__ == "__main__":
    main()
