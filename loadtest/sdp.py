"""SDP of a telephone call: one PCMU/8000 stream, with telephone-events (RFC 4733) beside it.

Pure. RFC 4566 is the format, RFC 3264 says what an answer to an offer may contain.
"""

from __future__ import annotations

import re

from msgspec import Struct

from loadtest.sip_message import CRLF, SipError


class Sdp(Struct, frozen=True):
    """One PCMU audio stream: where its owner receives it, and what it takes.

    `payload_types` in order of preference (0 is PCMU); `event_type` is the number of
    telephone-event/8000 among them, or None. `session_id` and `version` are of the o= line.
    """

    host: str
    port: int
    payload_types: tuple[int, ...] = (0, 101)
    event_type: int | None = 101
    ptime_ms: int = 20
    direction: str = "sendrecv"
    session_id: int = 1
    version: int = 1

    def encode(self) -> bytes:
        """The body (RFC 4566 section 5), for an offer as well as an answer."""
        family = "IP6" if ":" in self.host else "IP4"
        formats = " ".join(map(str, self.payload_types))
        event = self.event_type
        events = [] if event is None else [f"rtpmap:{event} telephone-event/8000"]
        events += [] if event is None else [f"fmtp:{event} 0-15"]
        attributes = ["rtpmap:0 PCMU/8000", *events, f"ptime:{self.ptime_ms}", self.direction]
        lines = ["v=0", f"o=- {self.session_id} {self.version} IN {family} {self.host}", "s=-"]
        lines += [f"c=IN {family} {self.host}", "t=0 0", f"m=audio {self.port} RTP/AVP {formats}"]
        lines += [f"a={attribute}" for attribute in attributes]
        return (CRLF.join(lines) + CRLF).encode()


_MIRRORED = {"sendonly": "recvonly", "recvonly": "sendonly"}


def parse_sdp(body: bytes) -> Sdp:
    """Read the first audio stream of an SDP body; SipError unless it can be PCMU over RTP/AVP."""
    lines = [line.strip() for line in body.decode(errors="replace").splitlines()]
    media = [i for i, line in enumerate(lines) if line.startswith("m=")]
    start = next((i for i in media if lines[i].startswith("m=audio ")), None)
    if not lines or lines[0] != "v=0" or start is None:
        raise SipError(f"SDP of {len(body)} bytes must begin with v=0 and have an m=audio line")
    end = next((i for i in media if i > start), len(lines))
    session, stream = lines[: media[0]], lines[start + 1 : end]
    match = re.fullmatch(r"m=audio (\d{1,5})(?:/1)? RTP/AVP((?: \d{1,3})+)", lines[start])
    if match is None or int(match[1]) > 65535:
        raise SipError(f"{lines[start]!r} must be m=audio PORT RTP/AVP and payload types")
    types = tuple(map(int, match[2].split()))
    if 0 not in types:
        raise SipError(f"{lines[start]!r} offers no PCMU (payload type 0)")
    origin = re.match(r"o=\S+ (\d+) (\d+) ", _first(session, "o="))
    return Sdp(
        host=_sdp_host([*stream, *session]),
        port=int(match[1]),
        payload_types=types,
        event_type=_sdp_event_type(stream, types),
        ptime_ms=_sdp_ptime_ms(stream),
        direction=_sdp_direction([*stream, *session]),
        session_id=int(origin[1]) if origin else 0,
        version=int(origin[2]) if origin else 0,
    )


def answer_sdp(offer: Sdp, host: str, port: int, session_id: int = 1) -> Sdp:
    """Our answer to an offer (RFC 3264 section 6).

    PCMU, the offer's telephone-event if it has one, and the direction seen from our side.
    """
    event = offer.event_type
    return Sdp(
        host=host,
        port=port,
        payload_types=(0,) if event is None else (0, event),
        event_type=event,
        direction=_MIRRORED.get(offer.direction, offer.direction),
        session_id=session_id,
    )


def _first(lines: list[str], prefix: str) -> str:
    return next((line for line in lines if line.startswith(prefix)), "")


def _sdp_host(lines: list[str]) -> str:
    match = re.fullmatch(r"c=IN IP[46] ([0-9A-Za-z.:-]+)(?:/\d+)*", _first(lines, "c="))
    if match is None:
        raise SipError(f"SDP needs a line c=IN IP4 ADDRESS, not {_first(lines, 'c=')!r}")
    return match[1]


def _sdp_event_type(lines: list[str], types: tuple[int, ...]) -> int | None:
    maps = [re.fullmatch(r"a=rtpmap:(\d+) telephone-event/8000", line, re.I) for line in lines]
    return next((int(m[1]) for m in maps if m is not None and int(m[1]) in types), None)


def _sdp_ptime_ms(lines: list[str]) -> int:
    match = re.fullmatch(r"a=ptime:(\d{1,3})(?:\.\d+)?", _first(lines, "a=ptime:"))
    return int(match[1]) if match else 20


def _sdp_direction(lines: list[str]) -> str:
    directions = ("sendrecv", "sendonly", "recvonly", "inactive")
    return next((line[2:] for line in lines if line[2:] in directions), "sendrecv")
