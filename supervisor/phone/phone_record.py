"""All that is known of a phone call, as it is kept for the next supervisor. Pure."""

import msgspec
from msgspec import Struct

from supervisor.phone.phone_call import PhoneCall, Script, StatusCallback
from supervisor.phone.verbs import MAX_SECONDS, Verb


class Notice(Struct, frozen=True):
    """A callback that is still to be delivered."""

    url: str
    method: str
    form: dict[str, str]


class PhoneRecord(Struct):
    """A phone call, where its script is, and what belongs to it.

    `verbs[at]` is what it does now; `base_url` is where the verbs came from. `leg_sid` is the call
    that a `<Dial>` or a transfer has placed, `consulted_sid` that of an attended transfer,
    `parties` are those that were added. `recorded`: whether its streams are; None: as the operator
    has set for all. `placed`: Asterisk was asked for the call's channel.
    """

    call: PhoneCall
    script: Script | None = None
    verbs: tuple[Verb, ...] = ()
    at: int = 0
    base_url: str = ""
    callback: StatusCallback | None = None
    sequence: int = 0
    notices: list[Notice] = []
    leg_sid: str = ""
    consulted_sid: str = ""
    parties: list[str] = []
    held: bool = False
    muted: bool = False
    playbacks: int = 0
    timeout_s: int = 60
    time_limit_s: int = MAX_SECONDS
    send_digits: str = ""
    recorded: bool | None = None
    placed: bool = False
    canceled: bool = False

    @property
    def sid(self) -> str:
        """The CallSid."""
        return self.call.sid

    @property
    def verb(self) -> Verb | None:
        """What is being done; None when the verbs are over, or have not come yet."""
        return self.verbs[self.at] if self.at < len(self.verbs) else None


_decoder = msgspec.json.Decoder(PhoneRecord)


def encode(record: PhoneRecord) -> bytes:
    """A record as JSON."""
    return msgspec.json.encode(record)


def decode(data: bytes) -> PhoneRecord:
    """A record from JSON; raises msgspec.DecodeError for anything else."""
    return _decoder.decode(data)
