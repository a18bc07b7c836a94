"""TwiML, read into verbs, and refused where it can't be followed."""

import pytest

from supervisor.phone import verbs as vb
from supervisor.phone.twiml import TwimlError, parse

DIAL = vb.Dial("+15551234567")


def response(content: str) -> str:
    """A document with these verbs."""
    return f"<?xml version='1.0' encoding='UTF-8'?><Response>{content}</Response>"


@pytest.mark.parametrize(
    ("content", "verbs"),
    [
        ("", ()),
        ("<Say voice='alice'> Hello\n there </Say>", (vb.Say("Hello there"),)),
        ("<Play loop='0'> https://h/a.wav </Play>", (vb.Play("https://h/a.wav", loop=0),)),
        ("<Play digits='1wW2'/>", (vb.Play(digits="1www2"),)),
        ("<Pause/><Pause length='5'/>", (vb.Pause(1), vb.Pause(5))),
        ("<Dial>+15551234567</Dial>", (DIAL,)),
        ("<Dial><Number>+15551234567</Number></Dial>", (DIAL,)),
        (
            "<Dial action='/a' method='get' timeout='9' timeLimit='60' callerId='+15550000000'"
            " hangupOnStar='true' answerOnBridge='true'><Sip>sip:anna@example.com</Sip></Dial>",
            (vb.Dial("sip:anna@example.com", "/a", "GET", 9, 60, "+15550000000", True, True),),
        ),
        ("<Redirect method='GET'>/next</Redirect>", (vb.Redirect("/next", "GET"),)),
        ("<Hangup/><Reject reason='busy'/>", (vb.Hangup(), vb.Reject("busy"))),
        (
            "<Connect action='/done'><Stream url='wss://h/s' name='n' statusCallback='/cb'>"
            "<Parameter name='k' value='v'/><Parameter name='e' value=''/></Stream></Connect>",
            (vb.Connect("wss://h/s", "n", {"k": "v", "e": ""}, "/cb", "POST", "/done"),),
        ),
    ],
)
def test_verbs(content: str, verbs: tuple[vb.Verb, ...]) -> None:
    """Each verb with its attributes, and their defaults."""
    assert parse(response(content)) == verbs


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("<Gather/>", "<Gather>.*allowed are Connect, Dial"),
        ("<Pause length='x'/>", "<Pause length> is 'x'.*0 to 3600"),
        ("<Pause size='1'/>", "<Pause> has the attribute 'size', allowed: length"),
        ("<Hangup now='1'/>", "no attribute"),
        ("<Reject reason='no'/>", "<Reject reason> is 'no', allowed: rejected, busy"),
        ("<Play>file:///etc/passwd</Play>", "allowed is an http"),
        ("<Play digits='7391;2'/>", "<Play digits> has ';', allowed are 1 to 64"),
        (f"<Play digits='{'1' * 101}'/>", "<Play digits> has 101 characters, "),
        ("<Dial/>", "<Dial> holds something else"),
        ("<Dial><Client>anna</Client></Dial>", "<Number> or <Sip>"),
        ("<Dial record='record-from-answer'>+15551234567</Dial>", "do-not-record"),
        ("<Dial method='PUT'>+15551234567</Dial>", "POST, GET"),
        ("<Dial><Sip>+1555</Sip></Dial>", "sip:"),
        ("<Connect><Room>r</Room></Connect>", "exactly one <Stream>"),
        ("<Connect><Stream url='http://h'/></Connect>", "wss://"),
        ("<Connect><Stream url='wss://h' track='both_tracks'/></Connect>", "inbound_track"),
        (
            f"<Connect><Stream url='wss://h'><Parameter name='n' value='{'v' * 500}'/></Stream>"
            "</Connect>",
            "501 characters",
        ),
        ("<Say>" * 9 + "</Say>" * 9, "deep"),
        ("<Pause/>" * 101, "101 verbs"),
    ],
)
def test_what_cannot_be_followed(content: str, words: str) -> None:
    """The error names the verb or attribute, and what is allowed."""
    with pytest.raises(TwimlError, match=words):
        parse(response(content))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("", "no element"),
        ("hello", "syntax error"),
        ("<Response>", "no element"),
        ("<Reply/>", "needed is <Response>"),
        ("<!DOCTYPE r [<!ENTITY e 'x'>]><Response><Say>&e;</Say></Response>", "DOCTYPE"),
        (response("<Say>" + "a" * 65536 + "</Say>"), "bytes, allowed are 65536"),
        (b"\xff\xfe\x00", "well-formed"),
    ],
)
def test_what_is_no_twiml(document: str | bytes, words: str) -> None:
    """No XML, another root, declarations, too much."""
    with pytest.raises(TwimlError, match=words):
        parse(document)
