"""What can be done on a call, one after the other: Twilio's verbs, and two of our own. Pure.

https://www.twilio.com/docs/voice/twiml. They are kept with the call, so that a new supervisor
goes on where its predecessor was.
"""

from typing import Final, TypeAlias

from msgspec import Struct

MAX_SECONDS: Final = 14400
"""The longest call, and its default (Twilio's timeLimit): four hours."""


class Say(Struct, frozen=True, tag=True):
    """Speak `text`, `loop` times (0: until the call ends)."""

    text: str
    loop: int = 1


class Play(Struct, frozen=True, tag=True):
    """Play a sound `loop` times (0: until the call ends), or send DTMF `digits` instead.

    `source` is an http(s) URL, which may be relative, or `sound:` and a name that Asterisk knows.
    """

    source: str = ""
    digits: str = ""
    loop: int = 1


class Pause(Struct, frozen=True, tag=True):
    """Wait."""

    length_s: int = 1


class Connect(Struct, frozen=True, tag=True):
    """Open a Media Stream to `url`, and go on when it has ended: at `action`, if there is one."""

    url: str
    name: str = ""
    parameters: dict[str, str] = {}
    status_callback: str = ""
    status_callback_method: str = "POST"
    action: str = ""
    method: str = "POST"


class Dial(Struct, frozen=True, tag=True):
    """Call `target` (number, SIP URI) and connect the two; then go on, at `action` if there is one.

    Times are seconds. `answer_on_bridge`: an unanswered caller hears ringing until then.
    """

    target: str
    action: str = ""
    method: str = "POST"
    timeout_s: int = 30
    time_limit_s: int = MAX_SECONDS
    caller_id: str = ""
    hangup_on_star: bool = False
    answer_on_bridge: bool = False


class Redirect(Struct, frozen=True, tag=True):
    """Go on with the TwiML at `url`; "" is the document's own."""

    url: str
    method: str = "POST"


class Hangup(Struct, frozen=True, tag=True):
    """End the call."""


class Reject(Struct, frozen=True, tag=True):
    """Don't take the call: `reason` is rejected or busy. An answered call is hung up."""

    reason: str = "rejected"


class ToDialplan(Struct, frozen=True, tag=True):
    """Hand the caller to a place in Asterisk's dialplan. No TwiML: a transfer makes it."""

    context: str
    extension: str
    priority: int


class Bridged(Struct, frozen=True, tag=True):
    """Stay connected with the call `sid` that was dialed before. No TwiML: a take-over makes it."""

    sid: str


Verb: TypeAlias = (
    Say | Play | Pause | Connect | Dial | Redirect | Hangup | Reject | ToDialplan | Bridged
)
