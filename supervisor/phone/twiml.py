"""TwiML: what shall happen on a call, read into verbs. Pure.

The verbs and attributes are Twilio's (https://www.twilio.com/docs/voice/twiml), as far as voice
bots use them. All else is an error that names it and what is allowed. A document is refused that
is too large, too deep, or declares anything (DOCTYPE, and so entities).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final
from xml.parsers import expat

from msgspec import Struct

from supervisor.phone.dial_target import DIGITS, DIGITS_ALLOWED
from supervisor.phone.verbs import (
    MAX_SECONDS,
    Connect,
    Dial,
    Hangup,
    Pause,
    Play,
    Redirect,
    Reject,
    Say,
    Verb,
)

MAX_BYTES: Final = 64 * 1024
"""Twilio's own limit for a document that a URL gives."""
MAX_DEPTH: Final = 8
MAX_VERBS: Final = 100
MAX_PARAMETER_CHARS: Final = 500
"""Name and value of a `<Parameter>` together (Twilio, "<Stream>: custom parameters")."""
REJECT_REASONS: Final = ("rejected", "busy")
METHODS: Final = ("POST", "GET")


class TwimlError(ValueError):
    """A document that can't be followed; the text names what is wrong and what is allowed."""


class Element(Struct):
    """An XML element: its text is all text directly in it."""

    name: str
    attributes: dict[str, str]
    children: list["Element"]
    text: str = ""


def parse(document: str | bytes) -> tuple[Verb, ...]:
    """The verbs of a `<Response>`, in order; none: the call ends.

    Raises:
        TwimlError: it is no TwiML, or asks for what there is not.
    """
    data = document.encode() if isinstance(document, str) else document
    if len(data) > MAX_BYTES:
        raise TwimlError(f"the TwiML has {len(data)} bytes, allowed are {MAX_BYTES}")
    root = _read_xml(data)
    if root.name != "Response":
        raise TwimlError(f"the TwiML begins with <{root.name}>, needed is <Response>")
    _attributes(root, {})
    if len(root.children) > MAX_VERBS:
        raise TwimlError(f"the TwiML has {len(root.children)} verbs, allowed are {MAX_VERBS}")
    return tuple(_verb(element) for element in root.children)


def _read_xml(data: bytes) -> Element:
    top = Element("", {}, [])
    path = [top]

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(path) > MAX_DEPTH:
            raise TwimlError(f"<{name}> is {len(path)} elements deep, allowed are {MAX_DEPTH}")
        element = Element(name, attributes, [])
        path[-1].children.append(element)
        path.append(element)

    def end(_: str) -> None:
        path.pop()

    def characters(text: str) -> None:
        path[-1].text += text

    def refuse(*_: object) -> None:
        raise TwimlError("the TwiML has a <!DOCTYPE>, allowed are elements only")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise TwimlError(f"the TwiML is no well-formed XML: {error}") from error
    return top.children[0]


def _verb(element: Element) -> Verb:
    build = _BUILDERS.get(element.name)
    if build is None:
        raise TwimlError(f"<{element.name}> is no verb here, allowed are {_names(_BUILDERS)}")
    return build(element)


def _say(element: Element) -> Say:
    given = _attributes(element, {"loop": "1", "voice": "", "language": ""})
    return Say(" ".join(element.text.split()), _number(element, "loop", given["loop"], 0, 1000))


def _play(element: Element) -> Play:
    given = _attributes(element, {"loop": "1", "digits": ""})
    _no_children(element)
    loop = _number(element, "loop", given["loop"], 0, 1000)
    digits, source = given["digits"], element.text.strip()
    if digits:
        if not DIGITS.fullmatch(digits):
            # The error goes into the log, and the rest of them may be a PIN.
            wrong = "".join(sorted(set(DIGITS.sub("", digits))))
            has = repr(wrong) if wrong else f"{len(digits)} characters"
            raise TwimlError(f"<Play digits> has {has}, allowed are {DIGITS_ALLOWED}")
        return Play(digits=digits.replace("W", "ww"), loop=loop)
    scheme = source.partition("/")[0].partition(":")
    if not source or (scheme[1] and scheme[0] not in ("http", "https", "sound")):
        raise TwimlError(f"<Play> has {source!r}, allowed is an http(s) URL, or sound:NAME")
    return Play(source, loop=loop)


def _pause(element: Element) -> Pause:
    given = _attributes(element, {"length": "1"})
    _no_children(element)
    return Pause(_number(element, "length", given["length"], 0, 3600))


def _connect(element: Element) -> Connect:
    given = _attributes(element, {"action": "", "method": "POST"})
    stream = _only_child(element, "Stream")
    names = {"url": "", "name": "", "track": "inbound_track", "statusCallback": ""}
    its = _attributes(stream, {**names, "statusCallbackMethod": "POST"})
    _one_of(stream, "track", its["track"], ("inbound_track",))
    if not its["url"].startswith(("ws://", "wss://")):
        raise TwimlError(f"<Stream url> is {its['url']!r}, allowed is wss://host/...")
    callback_method = _one_of(
        stream, "statusCallbackMethod", its["statusCallbackMethod"].upper(), METHODS
    )
    return Connect(
        url=its["url"],
        name=its["name"],
        parameters=_parameters(stream),
        status_callback=its["statusCallback"],
        status_callback_method=callback_method,
        action=given["action"],
        method=_method(element, given["method"]),
    )


def _parameters(stream: Element) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for child in stream.children:
        if child.name != "Parameter":
            raise TwimlError(f"<Stream> has <{child.name}>, allowed is <Parameter>")
        given = _attributes(child, {"name": "", "value": ""})
        name, value = given["name"], given["value"]
        if not name:
            raise TwimlError("<Parameter> has no name, needed are name and value")
        if len(name) + len(value) > MAX_PARAMETER_CHARS:
            raise TwimlError(
                f"<Parameter> {name[:40]!r} has {len(name) + len(value)} characters in name and "
                f"value, allowed are {MAX_PARAMETER_CHARS}"
            )
        parameters[name] = value
    return parameters


def _dial(element: Element) -> Dial:
    names = {"action": "", "method": "POST", "timeout": "30", "timeLimit": str(MAX_SECONDS)}
    flags = {"hangupOnStar": "false", "answerOnBridge": "false"}
    given = _attributes(element, {**names, **flags, "callerId": "", "record": "do-not-record"})
    _one_of(element, "record", given["record"], ("do-not-record", "false"))
    return Dial(
        target=_dial_target(element),
        action=given["action"],
        method=_method(element, given["method"]),
        timeout_s=_number(element, "timeout", given["timeout"], 1, 600),
        time_limit_s=_number(element, "timeLimit", given["timeLimit"], 1, MAX_SECONDS),
        caller_id=given["callerId"],
        hangup_on_star=_flag(element, "hangupOnStar", given),
        answer_on_bridge=_flag(element, "answerOnBridge", given),
    )


def _dial_target(element: Element) -> str:
    number = element.text.strip()
    if not element.children and number:
        return number
    if len(element.children) != 1 or number or element.children[0].name not in ("Number", "Sip"):
        raise TwimlError("<Dial> holds something else, needed is a number, one <Number> or <Sip>")
    child = element.children[0]
    _attributes(child, {})
    _no_children(child)
    target = child.text.strip()
    if (child.name == "Sip") != target.startswith(("sip:", "sips:")):
        raise TwimlError(f"<{child.name}> is {target!r}, allowed is sip:... in <Sip> only")
    return target


def _redirect(element: Element) -> Redirect:
    given = _attributes(element, {"method": "POST"})
    _no_children(element)
    return Redirect(element.text.strip(), _method(element, given["method"]))


def _hangup(element: Element) -> Hangup:
    _attributes(element, {})
    _no_children(element)
    return Hangup()


def _reject(element: Element) -> Reject:
    given = _attributes(element, {"reason": "rejected"})
    _no_children(element)
    return Reject(_one_of(element, "reason", given["reason"], REJECT_REASONS))


_BUILDERS: Final[Mapping[str, Callable[[Element], Verb]]] = {
    "Connect": _connect,
    "Dial": _dial,
    "Hangup": _hangup,
    "Pause": _pause,
    "Play": _play,
    "Redirect": _redirect,
    "Reject": _reject,
    "Say": _say,
}


def _attributes(element: Element, allowed: dict[str, str]) -> dict[str, str]:
    """The attributes with their defaults."""
    for name in element.attributes:
        if name not in allowed:
            what = _names(allowed) if allowed else "no attribute"
            raise TwimlError(f"<{element.name}> has the attribute {name!r}, allowed: {what}")
    return {**allowed, **element.attributes}


def _only_child(element: Element, name: str) -> Element:
    if [child.name for child in element.children] != [name]:
        held = _names(child.name for child in element.children) or "nothing"
        raise TwimlError(f"<{element.name}> holds {held}, allowed is exactly one <{name}>")
    return element.children[0]


def _no_children(element: Element) -> None:
    if element.children:
        raise TwimlError(f"<{element.name}> holds <{element.children[0].name}>, allowed is text")


def _method(element: Element, value: str) -> str:
    return _one_of(element, "method", value.upper(), METHODS)


def _flag(element: Element, name: str, given: Mapping[str, str]) -> bool:
    return _one_of(element, name, given[name], ("true", "false")) == "true"


def _one_of(element: Element, name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise TwimlError(f"<{element.name} {name}> is {value!r}, allowed: {_names(allowed)}")
    return value


def _number(element: Element, name: str, value: str, least: int, most: int) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 9 and least <= int(value) <= most):
        raise TwimlError(
            f"<{element.name} {name}> is {value!r}, allowed is a whole number {least} to {most}"
        )
    return int(value)


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)
