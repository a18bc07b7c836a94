"""Reads server-sent events from an answer that goes on."""

from typing import Any

import aiohttp
import msgspec


async def next_event(answer: aiohttp.ClientResponse) -> tuple[str, Any] | None:
    """Name and data of the next event; None at the stream's end."""
    name = b""
    while line := await answer.content.readline():
        field, _, value = line.rstrip(b"\n").partition(b": ")
        if field == b"event":
            name = value
        elif field == b"data":
            data = msgspec.json.decode(value)
            assert await answer.content.readline() == b"\n"
            return name.decode(), data
    return None


async def until_event(answer: aiohttp.ClientResponse, wanted: str) -> Any:
    """The data of the next event of this name."""
    while (event := await next_event(answer)) is not None:
        if event[0] == wanted:
            return event[1]
    raise AssertionError(f"the stream has ended without {wanted}")
