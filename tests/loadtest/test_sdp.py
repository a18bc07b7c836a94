"""SDP of calls: what Asterisk and trunks send, and our answers."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.sdp import Sdp, answer_sdp, parse_sdp
from loadtest.sip_message import SipError

OFFER = (
    b"v=0\r\no=- 1742 3 IN IP4 10.1.1.1\r\ns=trunk\r\nc=IN IP4 10.1.1.1\r\nt=0 0\r\n"
    b"m=audio 12000 RTP/AVP 8 0 96\r\nc=IN IP4 10.1.1.2\r\na=rtpmap:8 PCMA/8000\r\n"
    b"a=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-16\r\na=ptime:30\r\na=sendonly\r\n"
    b"m=video 13000 RTP/AVP 97\r\na=recvonly\r\n"
)


def test_parse_reads_the_audio_stream() -> None:
    """The stream's own address counts, and nothing of the stream after it."""
    assert parse_sdp(OFFER) == Sdp(
        host="10.1.1.2",
        port=12000,
        payload_types=(8, 0, 96),
        event_type=96,
        ptime_ms=30,
        direction="sendonly",
        session_id=1742,
        version=3,
    )


def test_parse_takes_a_bare_body() -> None:
    """Bare line feeds, no rtpmap for the static PCMU, no telephone-event, default direction."""
    sdp = parse_sdp(b"v=0\no=x 1 1 IN IP4 h\ns=-\nc=IN IP4 10.1.1.1\nt=0 0\nm=audio 2 RTP/AVP 0\n")
    assert (sdp.host, sdp.port, sdp.event_type) == ("10.1.1.1", 2, None)
    assert (sdp.ptime_ms, sdp.direction) == (20, "sendrecv")


@given(
    st.builds(
        Sdp,
        host=st.sampled_from(["127.0.0.1", "::1"]),
        port=st.integers(0, 65535),
        direction=st.sampled_from(["sendrecv", "sendonly", "recvonly", "inactive"]),
        session_id=st.integers(0, 2**62),
        version=st.integers(0, 2**31),
    )
)
def test_what_is_encoded_reads_back(sdp: Sdp) -> None:
    """Encoding and parsing are inverse."""
    assert parse_sdp(sdp.encode()) == sdp


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        (b"v=0", b"v=1", "must begin with v=0"),
        (b"m=audio", b"m=image", "have an m=audio line"),
        (b"RTP/AVP 8", b"RTP/SAVP 8", "must be m=audio PORT RTP/AVP"),
        (b" 12000", b" 72000", "must be m=audio PORT"),
        (b"8 0 96", b"8 96", "offers no PCMU"),
        (b"c=IN", b"x=IN", "needs a line c=IN IP4 ADDRESS"),
    ],
)
def test_parse_names_what_is_wrong(before: bytes, after: bytes, complaint: str) -> None:
    """Each way to break the body gets its own sentence."""
    with pytest.raises(SipError, match=re.escape(complaint)):
        parse_sdp(OFFER.replace(before, after))


@given(st.binary(max_size=200))
def test_parse_of_garbage_is_a_sip_error(body: bytes) -> None:
    """Whatever comes in, nothing but SipError comes out."""
    with pytest.raises(SipError):
        parse_sdp(body)


def test_answer_takes_pcmu_and_the_offers_event_type() -> None:
    """One codec, the number the offer gave to telephone-event, the direction mirrored."""
    answer = answer_sdp(parse_sdp(OFFER), "127.0.0.1", 4000, session_id=9)
    assert (answer.payload_types, answer.event_type) == ((0, 96), 96)
    assert (answer.direction, answer.session_id, answer.version) == ("recvonly", 9, 1)
    assert b"a=rtpmap:96 telephone-event/8000\r\n" in answer.encode()


def test_answer_without_telephone_event() -> None:
    """What the offer doesn't have is not answered (RFC 3264 section 6.1)."""
    answer = answer_sdp(Sdp("10.0.0.1", 2, (0,), event_type=None), "127.0.0.1", 4000)
    assert b"m=audio 4000 RTP/AVP 0\r\n" in answer.encode()
    assert b"telephone-event" not in answer.encode()
