"""The smallest phone that can judge Asterisk's configuration: one call, one socket for each plane.

Everything else uses the phone of `loadtest`; this one keeps these tests independent of it.
"""

import contextlib
import re
import secrets
import socket
import time
from typing import Self

SDP = (
    "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
    "m=audio {port} RTP/AVP {payload_type} 101\r\na=rtpmap:{payload_type} {codec}/8000\r\n"
    "a=rtpmap:101 telephone-event/8000\r\n"
)
RTP_HEADER_BYTES = 12


class PlainCaller:
    """A call from `host` to 127.0.0.1:`sip_port`; a context manager that closes its sockets."""

    def __init__(
        self, sip_port: int, host: str = "127.0.0.1", number: str = "+15551234567"
    ) -> None:
        self.uri = f"sip:{number}@127.0.0.1:{sip_port}".replace("sip:@", "sip:")
        self.server = ("127.0.0.1", sip_port)
        self.host = host
        self.tag = secrets.token_hex(4)
        self.call_id = secrets.token_hex(8)
        self.sip = _udp(host)
        self.rtp = _udp(host)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sip.close()
        self.rtp.close()

    def invite(self, codec: tuple[int, str] = (0, "PCMU"), seconds: float = 5.0) -> str:
        """INVITE that offers one codec; returns the final response, which is acknowledged."""
        port = self.rtp.getsockname()[1]
        offer = SDP.format(host=self.host, port=port, payload_type=codec[0], codec=codec[1])
        self._send("INVITE", f"<{self.uri}>", "Content-Type: application/sdp\r\n", offer)
        while (answer := self.receive(seconds)).startswith("SIP/2.0 1"):
            pass
        to = re.search(r"^To: (.*?)\r?$", answer, re.M | re.I)
        assert to is not None, answer
        self._send("ACK", to[1])
        return answer

    def receive(self, seconds: float) -> str:
        """The next SIP message; fails when none comes in time."""
        self.sip.settimeout(seconds)
        return self.sip.recv(65536).decode()

    def hear_until_bye(self, seconds: float) -> tuple[bytes, float]:
        """Receive until Asterisk hangs up. Returns the µ-law bytes and the s they took to come."""
        started = time.monotonic()
        heard = bytearray()
        self.sip.setblocking(False)
        self.rtp.settimeout(0.1)
        while time.monotonic() < started + seconds:
            with contextlib.suppress(TimeoutError):  # no packet: look for the BYE all the same
                heard += self.rtp.recv(2048)[RTP_HEADER_BYTES:]
            try:
                request = self.sip.recv(65536).decode()
            except BlockingIOError:
                continue
            if request.startswith("BYE "):
                self._answer(request)
                return bytes(heard), time.monotonic() - started
        raise AssertionError(f"no BYE within {seconds} s; heard {len(heard)} bytes")

    def _send(self, method: str, to: str, headers: str = "", body: str = "") -> None:
        address = f"{self.host}:{self.sip.getsockname()[1]}"
        message = (
            f"{method} {self.uri} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {address};branch=z9hG4bK{secrets.token_hex(6)};rport\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:tests@{address}>;tag={self.tag}\r\nTo: {to}\r\n"
            f"Call-ID: {self.call_id}\r\nCSeq: 1 {method}\r\nContact: <sip:tests@{address}>\r\n"
            f"{headers}Content-Length: {len(body)}\r\n\r\n{body}"
        )
        self.sip.sendto(message.encode(), self.server)

    def _answer(self, request: str) -> None:
        """200 with what RFC 3261 section 8.2.6.2 wants copied."""
        copied = re.findall(r"^(?:Via|From|To|Call-ID|CSeq): .*?\r\n", request, re.M | re.I)
        answer = f"SIP/2.0 200 OK\r\n{''.join(copied)}Content-Length: 0\r\n\r\n"
        self.sip.sendto(answer.encode(), self.server)


def _udp(host: str) -> socket.socket:
    plane = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    plane.bind((host, 0))
    return plane
