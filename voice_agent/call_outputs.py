"""What a Realtime call may want done: for the caller, for the API, for its tools and timers.

Pure.
"""

from typing import Literal, TypeAlias

import msgspec

from voice_agent.agent import Action
from voice_agent.realtime_messages import ClientEvent


class RunTool(msgspec.Struct, frozen=True):
    """Run a tool and tell `tool_answered` what it gave."""

    call_id: str
    name: str
    arguments: str


class Later(msgspec.Struct, frozen=True):
    """Call `wake` with this after `after_s` seconds."""

    after_s: float
    what: Literal["digits", "respond"]
    serial: int


Output: TypeAlias = Action | ClientEvent | RunTool | Later
