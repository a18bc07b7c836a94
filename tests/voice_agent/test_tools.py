"""The registry of tools: schemas from types, and what may not be registered."""

import doctest

import pytest

from voice_agent import tools
from voice_agent.tools import ToolCall, Tools, standard_tools


def test_the_example_in_the_docs_works() -> None:
    """The module's own."""
    assert doctest.testmod(tools).failed == 0


def test_schemas_come_from_types() -> None:
    """Constraints included; the call itself is no argument of the model's."""
    end, digits = standard_tools(1).schemas()
    assert end["parameters"] == {
        "type": "object",
        "properties": {},
        "required": [],
        "additionalProperties": False,
    }
    assert digits["parameters"]["required"] == ["digits"]
    assert digits["parameters"]["properties"]["digits"]["pattern"] == "^[0-9*#A-D]{1,100}$"


def test_what_a_tool_needs() -> None:
    """A docstring, types, and a name of its own."""
    registry = Tools(1)

    async def untyped(call: ToolCall, x) -> None:  # type: ignore[no-untyped-def]
        """Has an argument without a type."""

    async def silent(call: ToolCall) -> None:
        return None

    with pytest.raises(ValueError, match="'untyped': argument 'x' needs a type"):
        registry.add(untyped)
    with pytest.raises(ValueError, match="'silent'"):
        registry.add(silent)
    registry.add(tools.end_call)
    with pytest.raises(ValueError, match="'end_call'"):
        registry.add(tools.end_call)
