"""The tool that hands a caller over to somebody else, by the telephony stack's HTTP interface.

Whom the model may call is the operator's list: a model that is talked into dialing any number
would be an open door to toll fraud.
"""

from collections.abc import Mapping
from typing import Final, Literal

import aiohttp

from voice_agent.tools import Handler, ToolCall

TIMEOUT: Final = aiohttp.ClientTimeout(total=8.0)


class TransferError(Exception):
    """The call could not be transferred; the text says why."""


def transfer_tool(calls_url: str, key: str, targets: Mapping[str, str]) -> Handler:
    """Make the tool.

    Args:
        calls_url: where the supervisor serves HTTP, as http://127.0.0.1:8080.
        key: id and secret of an API key of the role `operate`, with a colon in between.
        targets: names that the model may use, and the number or SIP URI of each.
    """
    headers = {"Authorization": aiohttp.encode_basic_auth(*key.split(":", 1))}

    async def transfer_call(call: ToolCall, to: str) -> str:
        """Connects the caller to somebody else, and ends your part in the call."""
        await call.heard()
        url = f"{calls_url.rstrip('/')}/calls/{call.call_sid}/transfer"
        async with (
            aiohttp.ClientSession(headers=headers, timeout=TIMEOUT) as session,
            session.post(url, json={"target": targets[to]}) as answer,
        ):
            if answer.status != 200:
                raise TransferError(f"status {answer.status}: {await answer.text()}")
        return "the caller is being connected"

    # The model may choose among the names only: the registry makes an enumeration of this.
    transfer_call.__annotations__["to"] = Literal[tuple(targets)]
    return transfer_call
