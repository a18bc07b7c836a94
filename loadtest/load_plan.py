"""How the callers of a load test behave, and what one call of theirs shall be. Pure."""

from ipaddress import AddressValueError, IPv4Address
from random import Random
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from loadtest.sip_message import SipError, uri_parts

LONGEST_IN_MEANS: Final = 4.0
"""No call is longer than this many times the mean, or a test would not end: 2 % would be."""

Length: TypeAlias = Literal["fixed", "uniform", "exponential"]
_Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]


class BehaviourError(ValueError):
    """An option that can't be used; the text names it, its value and what is allowed."""


class Behaviour(Struct, frozen=True, kw_only=True):
    """What callers do. `_s` are seconds; `cancel`, `drop` and `barge_in` shares of the calls.

    A caller listens for `listen_s` after the answer. Then they speak for `speech_s` and listen for
    `silence_s`, again and again, until the call's time is over: `call_s` always ("fixed"), half to
    one and a half of it ("uniform"), or `call_s` at the mean ("exponential"). Who barges in speaks
    once more in the middle of each answer. `cancel` of the callers hang up before the answer,
    `drop` right after it. After `patience_s` without an answer the call has failed.

    Each caller makes `calls_per_minute` calls at random times, or, if that is 0, the next one as
    soon as the last is over.
    """

    calls_per_minute: Annotated[float, Meta(ge=0, le=6000)] = 0.0
    call_s: Annotated[float, Meta(gt=0, le=3600)] = 20.0
    length: Length = "exponential"
    listen_s: Annotated[float, Meta(ge=0.5, le=60)] = 2.0
    speech_s: Annotated[float, Meta(ge=0.2, le=25)] = 1.5
    silence_s: Annotated[float, Meta(ge=0, le=600)] = 3.0
    barge_in: _Share = 0.3
    cancel: _Share = 0.0
    drop: _Share = 0.0
    patience_s: Annotated[float, Meta(gt=0, le=60)] = 10.0


class Sound(Struct, frozen=True):
    """What a caller says: enough of it for a call of `up_to_s` seconds."""

    listen_s: float
    speech_s: float
    silence_s: float
    barges_in: bool
    up_to_s: float


class CallOrder(Struct, frozen=True, kw_only=True, tag="call"):
    """Place this call to a SIP URI. `number` is the order's own.

    `seconds` are those after the answer. With `cancel` the caller hangs up before it.
    """

    number: int
    to: str
    seconds: float
    sound: Sound
    patience_s: float
    cancel: bool = False


class HangUp(Struct, frozen=True, tag="hang_up"):
    """End the call of this order; nobody waits for its report any more."""

    number: int


Order: TypeAlias = CallOrder | HangUp


def read_behaviour(options: dict[str, object]) -> Behaviour:
    """The behaviour from command-line options or a form; others among them are left alone.

    Raises:
        BehaviourError: a value is not allowed.
    """
    wanted = {name: options[name] for name in Behaviour.__struct_fields__ if name in options}
    for name, value in wanted.items():
        try:
            msgspec.convert({name: value}, Behaviour, strict=False)
        except msgspec.ValidationError as error:
            allowed = str(error).partition(" - at ")[0]
            flag = name.replace("_", "-")
            raise BehaviourError(f"--{flag} is {str(value)!r}: {allowed}") from None
    return msgspec.convert(wanted, Behaviour, strict=False)


def check_target(uri: str) -> None:
    """Check whom to call.

    Raises:
        BehaviourError: it is no SIP URI.
    """
    try:
        uri_parts(uri)
    except SipError as error:
        raise BehaviourError(
            f"--host is {uri!r}: allowed is sip:user@host:port ({error})"
        ) from None


def check_host(address: str) -> None:
    """Check the phone's own address.

    Raises:
        BehaviourError: it is no IPv4 address.
    """
    try:
        IPv4Address(address)
    except AddressValueError as error:
        allowed = f"an IPv4 address of this machine ({error})"
        raise BehaviourError(f"--phone-host is {address!r}: allowed is {allowed}") from None


def next_call(behaviour: Behaviour, to: str, number: int, random: Random) -> CallOrder:
    """A caller's next call."""
    fate = random.random()
    early = fate < behaviour.cancel + behaviour.drop
    return CallOrder(
        number=number,
        to=to,
        seconds=0.0 if early else _length_s(behaviour, random),
        sound=Sound(
            listen_s=behaviour.listen_s,
            speech_s=behaviour.speech_s,
            silence_s=behaviour.silence_s,
            barges_in=random.random() < behaviour.barge_in,
            up_to_s=behaviour.call_s * LONGEST_IN_MEANS,
        ),
        patience_s=behaviour.patience_s,
        cancel=fate < behaviour.cancel,
    )


def _length_s(behaviour: Behaviour, random: Random) -> float:
    mean_s = behaviour.call_s
    match behaviour.length:
        case "fixed":
            return mean_s
        case "uniform":
            return random.uniform(0.5, 1.5) * mean_s
        case "exponential":
            return min(random.expovariate(1 / mean_s), LONGEST_IN_MEANS * mean_s)


def pause_s(behaviour: Behaviour, since_last_began_s: float, random: Random) -> float:
    """How long a caller waits for their next call: the times between begins are exponential.

    A call that took longer than that is followed by the next one at once.
    """
    if not behaviour.calls_per_minute:
        return 0.0
    interval_s = random.expovariate(behaviour.calls_per_minute / 60)
    return max(0.0, interval_s - since_last_began_s)
