"""The tool that transfers a call, against an HTTP server in the place of the stack's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import encode_basic_auth, web

from voice_agent.config import ConfigError, read_config
from voice_agent.tools import ToolCall, Tools
from voice_agent.transfer import transfer_tool

TARGETS = {"reception": "+14155550100", "nurse": "sip:nurse@clinic.example"}


class Stack:
    """What the HTTP interface was asked, and what it answers."""

    def __init__(self) -> None:
        self.status = 200
        self.asked: list[tuple[str, str, object]] = []

    async def transfer(self, request: web.Request) -> web.Response:
        """Note a request."""
        key = request.headers["Authorization"]
        self.asked.append((request.path, key, await request.json()))
        return web.json_response({"message": "no such call"}, status=self.status)


@asynccontextmanager
async def tools_of(stack: Stack) -> AsyncIterator[Tools]:
    """A registry with the tool, whose server is up."""
    app = web.Application()
    app.add_routes([web.post("/calls/{sid}/transfer", stack.transfer)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        tools = Tools(5.0)
        port = runner.addresses[0][1]
        tools.add(transfer_tool(f"http://127.0.0.1:{port}/", "KEY:secret", TARGETS))
        yield tools
    finally:
        await runner.cleanup()


def call(heard: asyncio.Event) -> ToolCall:
    """The call that it is used in."""
    return ToolCall("CA1", lambda: None, lambda digits: None, heard.wait)


async def test_a_transfer_waits_until_the_caller_has_heard_all() -> None:
    """Then the stack is asked, by the target's name."""
    stack, heard = Stack(), asyncio.Event()
    async with tools_of(stack) as tools:
        running = asyncio.create_task(tools.run("transfer_call", '{"to": "nurse"}', call(heard)))
        await asyncio.sleep(0)
        assert stack.asked == []
        heard.set()
        assert await running == '"the caller is being connected"'
    assert stack.asked == [
        ("/calls/CA1/transfer", encode_basic_auth("KEY", "secret"), {"target": TARGETS["nurse"]})
    ]


async def test_a_refused_transfer_is_told_to_the_model() -> None:
    """Without the reason, which is in the log."""
    stack, heard = Stack(), asyncio.Event()
    stack.status = 404
    heard.set()
    async with tools_of(stack) as tools:
        output = await tools.run("transfer_call", '{"to": "reception"}', call(heard))
    assert output == '{"error":"failed: TransferError"}'


async def test_only_the_operator_s_targets_can_be_called() -> None:
    """The schema names them, and no number of the model's own is dialed."""
    stack, heard = Stack(), asyncio.Event()
    heard.set()
    async with tools_of(stack) as tools:
        output = await tools.run("transfer_call", '{"to": "+19005550199"}', call(heard))
    (schema,) = tools.schemas()
    assert sorted(schema["parameters"]["properties"]["to"]["enum"]) == ["nurse", "reception"]
    assert "do not fit" in output
    assert stack.asked == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"VOICE_AGENT_TRANSFER_TARGETS": "reception"}, "VOICE_AGENT_TRANSFER_TARGETS is 'rec"),
        ({"VOICE_AGENT_TRANSFER_TARGETS": '{"a": "+1"}'}, "VOICE_AGENT_CALLS_KEY is ''"),
        ({"VOICE_AGENT_CALLS_KEY": "secret"}, "VOICE_AGENT_CALLS_KEY is 'secret': allowed is KEY"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, str], message: str) -> None:
    """No JSON, no key, or a key without its id."""
    with pytest.raises(ConfigError, match=message):
        read_config(settings, ["offline"])
