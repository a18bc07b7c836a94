'''Tools that a model may use in a call: typed async functions, their schema, and their failures.

>>> import asyncio
>>> tools = Tools(timeout_s=5)
>>> @tools.add
... async def opening_hours(call: ToolCall, weekday: str) -> str:
...     """Tells when the shop is open."""
...     return f"{weekday}: 9 to 17"
>>> tools.schemas()[0]["name"]
'opening_hours'
>>> async def heard() -> None: ...
>>> call = ToolCall("CA1", leave=lambda: None, send_digits=lambda digits: None, heard=heard)
>>> asyncio.run(tools.run("opening_hours", '{"weekday": "Monday"}', call))
'"Monday: 9 to 17"'
'''

import asyncio
import inspect
import typing
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeAlias

import msgspec
import structlog

log = structlog.get_logger()


class ToolCall(msgspec.Struct, frozen=True):
    """What a tool may do with the call that it is used in."""

    call_sid: str
    leave: Callable[[], None]
    """The next thing that the model says is the goodbye; the call ends when it was heard."""
    send_digits: Callable[[str], None]
    heard: Callable[[], Awaitable[object]]
    """Waits until the caller has heard all that was said so far."""


Handler: TypeAlias = Callable[..., Awaitable[object]]


class Tool(msgspec.Struct, frozen=True):
    """A tool: its function, and its arguments as a type that messages are checked with."""

    name: str
    description: str
    handler: Handler
    arguments: type[msgspec.Struct]


class Tools:
    """A registry of tools. `run` never raises what a tool raises: the model is told."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._tools: dict[str, Tool] = {}

    def add(self, handler: Handler) -> Handler:
        """Register an async function: a `ToolCall` first, then typed arguments.

        Its name and docstring are what the model chooses by.

        Raises:
            ValueError: no docstring, an argument without a type, or a name that is taken.
        """
        name = getattr(handler, "__name__", "")
        description = inspect.getdoc(handler)
        if not description or name in self._tools:
            raise ValueError(f"tool {name!r}: allowed is a new name, and a docstring is needed")
        self._tools[name] = Tool(name, description, handler, _arguments(name, handler))
        return handler

    def schemas(self) -> tuple[dict[str, Any], ...]:
        """Entries of the `tools` field of a Realtime session."""
        return tuple(
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": _schema(tool.arguments),
            }
            for tool in self._tools.values()
        )

    async def run(self, name: str, arguments: str, call: ToolCall) -> str:
        """Run a tool on JSON arguments. Returns JSON: its result, or `{"error": …}`."""
        tool = self._tools.get(name)
        if tool is None:
            return _error(f"no tool {name!r}; there are {', '.join(self._tools)}")
        try:
            values = msgspec.structs.asdict(
                msgspec.json.decode(arguments or "{}", type=tool.arguments)
            )
        except (msgspec.DecodeError, RecursionError) as wrong:
            return _error(f"the arguments do not fit: {wrong}")
        try:
            async with asyncio.timeout(self._timeout_s):
                return msgspec.json.encode(await tool.handler(call, **values)).decode()
        except TimeoutError:
            log.warning("tool_timed_out", tool=name, seconds=self._timeout_s)
            return _error(f"took longer than {self._timeout_s:g} s")
        except Exception as error:  # noqa: BLE001 - the model is told
            log.warning("tool_failed", tool=name, error=type(error).__name__)
            return _error(f"failed: {type(error).__name__}")


def _arguments(name: str, handler: Handler) -> type[msgspec.Struct]:
    hints = typing.get_type_hints(handler, include_extras=True)
    fields: list[Any] = []
    for parameter in list(inspect.signature(handler).parameters.values())[1:]:
        if parameter.name not in hints:
            raise ValueError(f"tool {name!r}: argument {parameter.name!r} needs a type")
        kind = hints[parameter.name]
        has_default = parameter.default is not inspect.Parameter.empty
        fields.append(
            (parameter.name, kind, parameter.default) if has_default else (parameter.name, kind)
        )
    return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)


def _schema(arguments: type[msgspec.Struct]) -> dict[str, Any]:
    """The JSON schema of a tool's arguments, with no reference at its top."""
    _, components = msgspec.json.schema_components([arguments], ref_template="#/$defs/{name}")
    schema: dict[str, Any] = components.pop(arguments.__name__)
    schema.pop("title", None)
    return {**schema, "$defs": components} if components else schema


def _error(text: str) -> str:
    return msgspec.json.encode({"error": text}).decode()


Digits = Annotated[
    str, msgspec.Meta(pattern="^[0-9*#A-D]{1,100}$", description="keys: 0-9, *, #, A-D")
]


async def end_call(call: ToolCall) -> str:
    """Hangs up after a goodbye. Use it when the caller is done or asks to end the call."""
    call.leave()
    return "say goodbye in one short sentence; then the call ends"


async def send_digits(call: ToolCall, digits: Digits) -> str:
    """Presses keys of the phone, for example in the menu of another system."""
    call.send_digits(digits)
    return "sent"


def standard_tools(timeout_s: float) -> Tools:
    """The tools that every call has: `end_call` and `send_digits`."""
    tools = Tools(timeout_s)
    tools.add(end_call)
    tools.add(send_digits)
    return tools
