"""The smallest SIP caller over TLS, for what a client that is meant to work wouldn't do."""

import re
import secrets
import socket
from typing import Self

from tests.deploy.secure_trunk import Authority

PATIENCE_S = 5.0
CRYPTO = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + "A" * 40 + "\r\n"
SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio 9 {profile} 0\r\na=rtpmap:0 PCMU/8000\r\n{crypto}"
)


class TlsCaller:
    """A connection from `host` to 127.0.0.1:`port`, whose calls come from `user`."""

    def __init__(
        self, port: int, authority: Authority, host: str, user: str = "+15550001111"
    ) -> None:
        plain = socket.create_connection(
            ("127.0.0.1", port), timeout=PATIENCE_S, source_address=(host, 0)
        )
        self._connection = authority.client_tls().wrap_socket(plain, server_hostname="127.0.0.1")
        self._received = b""
        self._host, self._port, self._user = host, port, user
        self._tag = secrets.token_hex(4)
        self._dialog = ("", "", "")  # URI, To, Call-ID

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def invite(
        self, number: str = "+15551234567", profile: str = "RTP/SAVP", crypto: str = CRYPTO
    ) -> str:
        """INVITE; returns the final response, which is acknowledged."""
        uri = f"sip:{number}@127.0.0.1:{self._port};transport=tls"
        self._dialog = (uri, f"<{uri}>", secrets.token_hex(8))
        answer = self.ask("INVITE", SDP.format(profile=profile, crypto=crypto))
        to = re.search(r"^To: (.*?)\r$", answer, re.M)
        assert to is not None, answer
        self._dialog = (uri, to[1], self._dialog[2])
        self._send("ACK")
        return answer

    def look(self, user: str) -> str:
        """OPTIONS of a name; returns the final response."""
        uri = f"sip:{user}@127.0.0.1:{self._port};transport=tls"
        self._dialog = (uri, f"<{uri}>", secrets.token_hex(8))
        return self.ask("OPTIONS")

    def ask(self, method: str, body: str = "") -> str:
        """Send a request; returns its final response."""
        self._send(method, body)
        while not re.match(r"SIP/2\.0 [2-6]", answer := self._receive()):
            pass
        return answer

    def _send(self, method: str, body: str = "") -> None:
        uri, to, call_id = self._dialog
        sequence = 2 if method == "BYE" else 1
        head = (
            f"{method} {uri} SIP/2.0\r\n"
            f"Via: SIP/2.0/TLS {self._host};branch=z9hG4bK{secrets.token_hex(8)}\r\n"
            f"From: <sip:{self._user}@{self._host}>;tag={self._tag}\r\nTo: {to}\r\n"
            f"Call-ID: {call_id}\r\nCSeq: {sequence} {method}\r\nMax-Forwards: 70\r\n"
            f"Contact: <sip:{self._user}@{self._host};transport=tls>\r\n"
            f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._connection.sendall((head + body).encode())

    def _receive(self) -> str:
        """The next message; one of several that came at once, or put together from parts."""
        while True:
            head, found, rest = self._received.partition(b"\r\n\r\n")
            length = re.search(rb"Content-Length:\s*(\d+)", head)
            if found and length and len(rest) >= int(length[1]):
                body, self._received = rest[: int(length[1])], rest[int(length[1]) :]
                return (head.lstrip() + found + body).decode()
            if not (more := self._connection.recv(65536)):
                raise EOFError("Asterisk has closed the connection")
            self._received += more
