"""SIP messages and dialogs: literal datagrams in, literal values out."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loadtest.sip_dialog import ack_of, cancel_of, dialog_of_callee, dialog_of_caller
from loadtest.sip_message import (
    Request,
    Response,
    SipError,
    address_uri,
    parameter,
    parse,
    received_from,
    response_to,
    uri_parts,
)

INVITE = (
    b"INVITE sip:100@10.0.0.2 SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 10.0.0.9:5080;branch=z9hG4bKtop;rport,"
    b" SIP/2.0/UDP 10.0.0.8;branch=z9hG4bK2\r\n"
    b"v: SIP/2.0/UDP 10.0.0.7;branch=z9hG4bK3\r\n"
    b"Record-Route: <sip:p2;lr>, <sip:p1;lr>\r\n"
    b'From: "Smith, ""A"" <x>" <sip:alice@10.0.0.1;user=phone>;tag=abc\r\n'
    b"t: <sip:100@10.0.0.2>\r\n"
    b"I: call-7\r\n"
    b"CSEQ: 314 INVITE\r\n"
    b"m: <sip:alice@10.0.0.1:5070>\r\n"
    b"Subject: one\r\n"
    b"  and two\r\n"
    b"l: 5\r\n"
    b"\r\n"
    b"v=0\r\nleft over"
)


def invite() -> Request:
    """The INVITE above."""
    message = parse(INVITE)
    assert isinstance(message, Request)
    return message


def test_parse_reads_compact_folded_and_listed_headers() -> None:
    """Header names in any case and form; several Vias in one line and in several."""
    message = invite()
    assert (message.method, message.uri) == ("INVITE", "sip:100@10.0.0.2")
    assert [parameter(via, "branch") for via in message.values("Via")] == [
        "z9hG4bKtop",
        "z9hG4bK2",
        "z9hG4bK3",
    ]
    assert (message.branch, message.call_id, message.cseq) == (
        "z9hG4bKtop",
        "call-7",
        (314, "INVITE"),
    )
    assert (message.from_tag, message.to_tag) == ("abc", None)
    assert message.get("s") == "one and two"
    assert message.get("Expires") is None


def test_parse_cuts_the_body_at_content_length() -> None:
    """What follows in the datagram is no part of the message (RFC 3261 section 18.3)."""
    assert invite().body == b"v=0\r\n"


def test_parse_reads_responses_with_and_without_a_reason() -> None:
    """The reason phrase may be empty and may have spaces."""
    headers = b"\r\n".join(INVITE.split(b"\r\n")[1:-2]).replace(b"l: 5", b"l: 0") + b"\r\n\r\n"
    for reason in ("", "Busy Here"):
        message = parse(f"SIP/2.0 486 {reason}\r\n".encode() + headers)
        assert isinstance(message, Response)
        assert (message.status, message.reason, message.body) == (486, reason, b"")


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        (b"\r\n\r\n", b"\r\n", "without the empty line"),
        (b"SIP/2.0\r\n", b"HTTP/1.1\r\n", "neither a SIP/2.0 request nor a response"),
        (b"Subject: one", b"Subject one", "is not 'name: value'"),
        (b"I: call-7\r\n", b"", "without the header Call-ID"),
        (b"314 INVITE", b"314 BYE", "CSeq names 'BYE' in a INVITE request"),
        (b"314 INVITE", b"4294967296 INVITE", "must be a number below 2**32"),
        (b"l: 5", b"l: 500", "Content-Length is 500, the body has 14 bytes"),
        (b"l: 5", b"l: -1", "Content-Length '-1' must be a number"),
        (b"alice", b"\xff\xfe", "no UTF-8"),
    ],
)
def test_parse_names_what_is_wrong(before: bytes, after: bytes, complaint: str) -> None:
    """Each way to break the message gets its own sentence."""
    assert before in INVITE
    with pytest.raises(SipError, match=re.escape(complaint)):
        parse(INVITE.replace(before, after))


@given(st.binary(max_size=300))
@example(b"")
@example(b"\r\n\r\n")
def test_parse_of_garbage_is_a_sip_error(data: bytes) -> None:
    """Whatever comes in, nothing but SipError comes out."""
    with pytest.raises(SipError):
        parse(data)


@given(st.integers(0, len(INVITE) - 1), st.binary(max_size=3))
def test_parse_of_a_damaged_message_gives_a_message_or_a_sip_error(at: int, patch: bytes) -> None:
    """A damaged INVITE is refused, or reads as something that can be sent on."""
    try:
        message = parse(INVITE[:at] + patch + INVITE[at + len(patch) :])
    except SipError:
        return
    assert parse(message.encode()) == parse(message.encode())


def test_encode_states_the_length_of_its_body() -> None:
    """A wrong Content-Length among the headers is replaced, and what is sent reads back."""
    message = invite()
    changed = Request("INVITE", message.uri, headers=message.headers, body=b"longer body")
    assert changed.encode().endswith(b"\r\nContent-Length: 11\r\n\r\nlonger body")
    again = parse(changed.encode())
    assert isinstance(again, Request)
    assert (again.body, again.values("Via")) == (b"longer body", message.values("Via"))


def test_response_keeps_what_identifies_the_transaction() -> None:
    """Vias, From, Call-ID and CSeq as they came; the tag goes to To, a body gets its type."""
    request = invite()
    response = response_to(request, 200, to_tag="xyz", headers=(("Contact", "<sip:b>"),), body=b"v")
    read = parse(response.encode())
    assert isinstance(read, Response)
    assert (read.status, read.reason, read.to_tag, read.body) == (200, "OK", "xyz", b"v")
    for name in ("Via", "From", "Call-ID", "CSeq", "Record-Route"):
        assert read.values(name) == request.values(name)
    assert read.get("Content-Type") == "application/sdp"


def test_response_of_100_and_of_a_refusal() -> None:
    """100 gets no tag (RFC 3261 section 8.2.6.2); a refusal makes no dialog and no route."""
    assert response_to(invite(), 100, to_tag="xyz").to_tag is None
    refusal = response_to(invite(), 486, to_tag="xyz")
    assert (refusal.to_tag, refusal.values("Record-Route")) == ("xyz", ())
    assert response_to(invite(), 299, "Odd").reason == "Odd"


def test_received_from_fills_the_topmost_via_only() -> None:
    """received and rport say where the request came from (RFC 3581 section 4)."""
    vias = received_from(invite(), "192.0.2.1", 999).values("Via")
    assert parameter(vias[0], "received") == "192.0.2.1"
    assert parameter(vias[0], "rport") == "999"
    assert parameter(vias[0], "branch") == "z9hG4bKtop"
    assert vias[1:] == invite().values("Via")[1:]


@pytest.mark.parametrize(
    ("value", "uri", "tag"),
    [
        ("<sip:a@b;lr>;tag=1", "sip:a@b;lr", "1"),
        ("sip:a@b;tag=1", "sip:a@b", "1"),
        ('"; tag=2 <sip:no>" <sip:a@b>;TAG=1', "sip:a@b", "1"),
        ("<sip:a@b;tag=2>", "sip:a@b;tag=2", None),
        ("sip:a@b ; other ; tag = 1", "sip:a@b", "1"),
    ],
)
def test_addresses_in_headers(value: str, uri: str, tag: str | None) -> None:
    """URI parameters are no header parameters, and quoted text is neither."""
    assert address_uri(value) == uri
    assert parameter(value, "tag") == tag


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("sip:100@127.0.0.1:5090", ("100", "127.0.0.1", 5090)),
        ("SIP:host.example;transport=udp", ("", "host.example", 5060)),
        ("sip:+49@[::1]:1?a=b", ("+49", "::1", 1)),
    ],
)
def test_uri_parts(uri: str, parts: tuple[str, str, int]) -> None:
    """User, host and port, with their defaults."""
    assert uri_parts(uri) == parts


@pytest.mark.parametrize("uri", ["tel:123", "sip:", "sip:a@b:70000", "sip:a@b:x", "100"])
def test_uri_parts_refuses_what_is_no_sip_uri(uri: str) -> None:
    """The error shows the value."""
    with pytest.raises(SipError, match=re.escape(repr(uri))):
        uri_parts(uri)


def test_both_sides_see_the_same_dialog() -> None:
    """From, To, target and routes are mirrored (RFC 3261 section 12.1)."""
    request = invite()
    response = response_to(request, 200, to_tag="xyz", headers=(("Contact", "<sip:b@callee>"),))
    caller, callee = dialog_of_caller(response), dialog_of_callee(request, response)
    assert (caller.local, caller.remote) == (callee.remote, callee.local)
    assert (caller.target, callee.target) == ("sip:b@callee", "sip:alice@10.0.0.1:5070")
    assert callee.route_set == ("<sip:p2;lr>", "<sip:p1;lr>")
    assert caller.route_set == callee.route_set[::-1]


def test_request_in_a_dialog() -> None:
    """A BYE goes to the Contact, along the route, with the tags of both."""
    response = response_to(invite(), 200, to_tag="xyz", headers=(("Contact", "<sip:b@callee>"),))
    bye = dialog_of_caller(response).request(
        "BYE", 315, "SIP/2.0/UDP h;branch=z9hG4bKn", ("X", "y")
    )
    read = parse(bye.encode())
    assert isinstance(read, Request)
    assert (read.method, read.uri, read.cseq) == ("BYE", "sip:b@callee", (315, "BYE"))
    assert (read.from_tag, read.to_tag, read.get("X")) == ("abc", "xyz", "y")
    assert read.values("Route") == ("<sip:p1;lr>", "<sip:p2;lr>")


def test_cancel_and_ack_belong_to_the_invites_transaction() -> None:
    """Same URI, branch and CSeq number; the ACK's To is the response's (17.1.1.3)."""
    request = invite()
    cancel = cancel_of(request)
    ack = ack_of(request, response_to(request, 486, to_tag="xyz"))
    for message in (cancel, ack):
        assert (message.uri, message.branch, message.cseq[0]) == (request.uri, "z9hG4bKtop", 314)
    assert (cancel.cseq[1], cancel.to_tag) == ("CANCEL", None)
    assert (ack.cseq[1], ack.to_tag) == ("ACK", "xyz")
