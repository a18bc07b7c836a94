"""SIP messages: bytes in, frozen Structs out, and back again.

Pure: no sockets, no clock, no random numbers. It covers what a phone and a small answering side
need on UDP: RFC 3261, and `rport` of RFC 3581. Bodies are in `loadtest.sdp`, and what holds for all
requests of one call in `loadtest.sip_dialog`.
"""

from __future__ import annotations

import re

from msgspec import Struct

CRLF = "\r\n"
SIP_VERSION = "SIP/2.0"

# RFC 3261 section 7.3.3, and section 20 for the forms that extensions registered later.
COMPACT_FORMS = {
    "c": "content-type",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "s": "subject",
    "t": "to",
    "v": "via",
    "x": "session-expires",
}
# Headers in which one line may carry several values, separated by commas (RFC 3261 section 7.3.1).
LISTED_HEADERS = frozenset({"via", "route", "record-route", "contact", "allow", "supported"})
# RFC 3261 section 8.1.1: without these no message can be matched to a transaction.
REQUIRED_HEADERS = ("Via", "From", "To", "Call-ID", "CSeq")

REASONS = {
    100: "Trying",
    180: "Ringing",
    183: "Session Progress",
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    415: "Unsupported Media Type",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    500: "Server Internal Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    603: "Decline",
}

Headers = tuple[tuple[str, str], ...]


class SipError(ValueError):
    """A SIP message or SDP body that cannot be used; the text names what is wrong with it."""


class _Message(Struct, frozen=True, kw_only=True):
    """What requests and responses share. Header names keep their spelling and their order."""

    headers: Headers
    body: bytes = b""

    def values(self, name: str) -> tuple[str, ...]:
        """Every value of a header, in order; `name` in any case or in its compact form."""
        wanted = _long_name(name)
        lines = [value for key, value in self.headers if _long_name(key) == wanted]
        if wanted not in LISTED_HEADERS:
            return tuple(lines)
        return tuple(part for line in lines for part in _split_list(line))

    def get(self, name: str) -> str | None:
        """The first value of a header, or None."""
        return next(iter(self.values(name)), None)

    def require(self, name: str) -> str:
        """The first value of a header; SipError when the message has none."""
        value = self.get(name)
        if value is None:
            raise SipError(f"SIP message without the header {name}")
        return value

    @property
    def call_id(self) -> str:
        return self.require("Call-ID")

    @property
    def cseq(self) -> tuple[int, str]:
        """Number and method, as in (1, "INVITE")."""
        value = self.require("CSeq")
        match = re.fullmatch(r"(\d{1,10})\s+(\S+)", value)
        if match is None or int(match[1]) >= 1 << 32:
            raise SipError(f"CSeq {value!r} must be a number below 2**32 and a method")
        return int(match[1]), match[2]

    @property
    def branch(self) -> str | None:
        """The transaction's id: the branch of the topmost Via (RFC 3261 section 17.1.3)."""
        return parameter(self.require("Via"), "branch")

    @property
    def from_tag(self) -> str | None:
        return parameter(self.require("From"), "tag")

    @property
    def to_tag(self) -> str | None:
        return parameter(self.require("To"), "tag")

    def _encode(self, start_line: str) -> bytes:
        """The datagram; Content-Length is always the body's own."""
        lines = [start_line]
        lines += [f"{k}: {v}" for k, v in self.headers if _long_name(k) != "content-length"]
        lines += [f"Content-Length: {len(self.body)}", "", ""]
        return CRLF.join(lines).encode() + self.body


class Request(_Message, frozen=True):
    method: str
    uri: str

    def encode(self) -> bytes:
        return self._encode(f"{self.method} {self.uri} {SIP_VERSION}")


class Response(_Message, frozen=True):
    status: int
    reason: str

    def encode(self) -> bytes:
        return self._encode(f"{SIP_VERSION} {self.status} {self.reason}")


def parse(data: bytes) -> Request | Response:
    """Read one datagram. SipError says what is wrong; bytes after Content-Length are dropped."""
    head, separator, body = data.lstrip(b"\r\n").partition(b"\r\n\r\n")
    if not separator:
        raise SipError(f"SIP message of {len(data)} bytes without the empty line after its headers")
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        raise SipError(f"SIP headers are no UTF-8: {error}") from None
    # A line that begins with white space continues the one before (RFC 3261 section 7.3.1).
    first, *lines = re.sub(r"\r\n[ \t]+", " ", text).split(CRLF)
    headers = tuple(_parse_header(line) for line in lines)
    message = _parse_start_line(first, headers, body)
    for name in REQUIRED_HEADERS:
        message.require(name)
    method = message.cseq[1]
    if isinstance(message, Request) and method != message.method:
        raise SipError(f"CSeq names {method!r} in a {message.method} request")
    return _cut_body(message)


def _parse_start_line(line: str, headers: Headers, body: bytes) -> Request | Response:
    if match := re.fullmatch(r"SIP/2\.0 ([1-6]\d\d) ?(.*)", line):
        return Response(int(match[1]), match[2], headers=headers, body=body)
    if match := re.fullmatch(r"([^\s/:]+) (\S+) SIP/2\.0", line):
        return Request(match[1], match[2], headers=headers, body=body)
    raise SipError(f"start line {line[:80]!r} is neither a SIP/2.0 request nor a response")


def _parse_header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    name = name.rstrip()
    if not colon or not name or re.search(r"\s", name):
        raise SipError(f"header line {line[:80]!r} is not 'name: value'")
    return name, value.strip()


def _cut_body(message: Request | Response) -> Request | Response:
    stated = message.get("Content-Length")
    if stated is None:
        return message  # on UDP the datagram's end is the body's (RFC 3261 section 18.3)
    if re.fullmatch(r"\d{1,9}", stated) is None:
        raise SipError(f"Content-Length {stated!r} must be a number of bytes")
    length = int(stated)
    if length > len(message.body):
        raise SipError(f"Content-Length is {length}, the body has {len(message.body)} bytes")
    body = message.body[:length]
    if isinstance(message, Request):
        return Request(message.method, message.uri, headers=message.headers, body=body)
    return Response(message.status, message.reason, headers=message.headers, body=body)


def _long_name(name: str) -> str:
    lower = name.lower()
    return COMPACT_FORMS.get(lower, lower)


def _split_list(value: str) -> list[str]:
    """Split at commas outside of "quoted strings" and <URIs>."""
    parts = re.findall(r'(?:"(?:[^"\\]|\\.)*"|<[^>]*>|[^,"<]|["<])+', value)
    return [part.strip() for part in parts if part.strip()]


def parameter(value: str, name: str) -> str | None:
    """A parameter of a header value, as `tag` of From; "" when it is there without a value."""
    outside = re.sub(r'"(?:[^"\\]|\\.)*"|<[^>]*>', "", value)
    for part in outside.split(";")[1:]:
        key, _, content = part.partition("=")
        if key.strip().lower() == name:
            return content.strip()
    return None


def address_uri(value: str) -> str:
    """The URI in a From, To, Contact or Route value: with or without name and brackets."""
    match = re.search(r"<([^>]+)>", re.sub(r'"(?:[^"\\]|\\.)*"', "", value))
    return match[1] if match else value.partition(";")[0].strip()


def uri_parts(uri: str) -> tuple[str, str, int]:
    """User ("" if none), host and port (5060 if none) of a SIP URI. SipError for other schemes."""
    match = re.fullmatch(
        r"sip:(?:([^@;?]*)@)?(\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::(\d{1,5}))?(?:[;?].*)?", uri, re.I
    )
    if match is None or int(match[3] or 0) > 65535:
        raise SipError(f"{uri!r} is not a SIP URI such as sip:user@host:5060")
    return match[1] or "", match[2].strip("[]"), int(match[3] or 5060)


def received_from(request: Request, host: str, port: int) -> Request:
    """The request with `received` and `rport` filled into its topmost Via (RFC 3581 section 4)."""
    index = next(i for i, (name, _) in enumerate(request.headers) if _long_name(name) == "via")
    name, line = request.headers[index]
    top, *rest = _split_list(line)
    asks_for_port = parameter(top, "rport") is not None
    top = re.sub(r"\s*;\s*(rport(=\d*)?|received=[^;]*)(?=\s*(;|$))", "", top, flags=re.I)
    top += f";received={host}" + (f";rport={port}" if asks_for_port else "")
    via = (name, ", ".join([top, *rest]))
    headers = (*request.headers[:index], via, *request.headers[index + 1 :])
    return Request(request.method, request.uri, headers=headers, body=request.body)


def response_to(
    request: Request,
    status: int,
    reason: str | None = None,
    *,
    to_tag: str = "",
    headers: Headers = (),
    body: bytes = b"",
) -> Response:
    """The answer to a request (RFC 3261 section 8.2.6): its Vias, From, Call-ID and CSeq.

    `to_tag` is added to a To that has no tag yet: give the same one for all responses of a call.
    `headers` follow (Contact, Allow); a body is labelled application/sdp unless they say otherwise.
    Record-Route is copied below 300, where it makes the dialog's route set (section 12.1.1).
    """
    kept = ("via", "from", "call-id", "cseq", *(("record-route",) if status < 300 else ()))
    copied = [(name, value) for name, value in request.headers if _long_name(name) in kept]
    to = request.require("To")
    if to_tag and status > 100 and parameter(to, "tag") is None:
        to += f";tag={to_tag}"
    if body and all(_long_name(name) != "content-type" for name, _ in headers):
        headers = (*headers, ("Content-Type", "application/sdp"))
    reason = REASONS.get(status, "Unknown") if reason is None else reason
    return Response(status, reason, headers=(*copied, ("To", to), *headers), body=body)
