"""The benchmark's voice server: says back to each caller what it has heard, as cheaply as can be.

    python -m loadtest.bench_voice_server [PEM_FILE]

Listens on a free port of 127.0.0.1, by TLS if a file with certificate and key is given, prints
"port N", and ends with its stdin. Each `media` message of a stream becomes a proper message of a
voice server (`event`, `streamSid`, `media.payload`), made without parsing: the payload is the last
that stands in it.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path
from typing import Final

import msgspec
import picows
import uvloop

from loadtest.bench_programs import raise_fd_limit

MEDIA: Final = b'{"event":"media"'
PAYLOAD: Final = b'"payload":"'
BUFFER_BYTES: Final = 4 * 1024


class Start(msgspec.Struct):
    """What is needed of the message `start`; `connected`, which comes before it, has no id."""

    streamSid: str = ""


class Echo(picows.WSListener):
    """One stream."""

    def __init__(self) -> None:
        self._head = b""

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.TEXT:
            message = frame.get_payload_as_bytes()
            if message.startswith(MEDIA):
                echo = self._head + message[message.rindex(PAYLOAD) :]
                transport.send(picows.WSMsgType.TEXT, echo)
            elif stream_sid := msgspec.json.decode(message, type=Start).streamSid:
                self._head = b'{"event":"media","streamSid":"%b","media":{' % stream_sid.encode()
        elif frame.msg_type == picows.WSMsgType.CLOSE:
            transport.send_close(picows.WSCloseCode.OK)
            transport.disconnect()


def server_tls(pem_file: Path) -> ssl.SSLContext:
    """A server's TLS with the certificate and the key of a file; raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem_file)
    return context


async def serve(tls: ssl.SSLContext | None) -> None:
    """Serve until stdin is at its end."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    server = await picows.ws_create_server(
        lambda _: Echo(),
        "127.0.0.1",
        0,
        ssl=tls,
        read_buffer_init_size=BUFFER_BYTES,
        backlog=1024,
    )
    print(f"port {server.sockets[0].getsockname()[1]}", flush=True)
    await ended.wait()
    server.close()


def main() -> int:
    """The command line; returns the exit code."""
    raise_fd_limit()
    uvloop.run(serve(server_tls(Path(sys.argv[1])) if len(sys.argv) > 1 else None))
    return 0


if __name__ == "__main__":
    sys.exit(main())
