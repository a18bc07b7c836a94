"""The CloudFormation template, as its tests read it."""

from pathlib import Path
from typing import Any

from cfnlint.decode import decode  # type: ignore[import-untyped]

TEMPLATE = Path(__file__).parents[2] / "deploy" / "cloudformation.yaml"


def resources_of_the_template() -> dict[str, Any]:
    """The resources by their names; `!Ref X` is {"Ref": "X"}, and so on."""
    template, problems = decode(str(TEMPLATE))
    assert not problems
    found: dict[str, Any] = template["Resources"]
    return found


def statements(role: dict[str, Any]) -> list[dict[str, Any]]:
    """What a role's own policies allow."""
    return [
        statement
        for policy in role["Properties"]["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
    ]
