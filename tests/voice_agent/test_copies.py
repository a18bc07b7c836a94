"""What the voice agent shares with the worker is a copy, so that it can be taken elsewhere."""

import ast
from pathlib import Path

import pytest

import shim
import voice_agent


def code(package: Path, module: str) -> str:
    """A module's code without its docstring and comments, in one spelling."""
    tree = ast.parse((package / f"{module}.py").read_text(encoding="utf-8"))
    return ast.unparse(ast.Module(tree.body[1:], [])).replace(f"from {package.name}.", "from ")


@pytest.mark.parametrize("module", ["core_dumps", "log_hooks", "masking"])
def test_copies_are_equal(module: str) -> None:
    """What is mended in one is mended in the other."""
    ours, theirs = (Path(package.__path__[0]) for package in (voice_agent, shim))
    assert code(ours, module) == code(theirs, module)
