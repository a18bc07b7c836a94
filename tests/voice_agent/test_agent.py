"""The seam's documentation."""

import doctest

from voice_agent import agent


def test_the_example_works() -> None:
    """Whoever copies the example from the docstring gets an agent that runs."""
    result = doctest.testmod(agent)
    assert result.attempted > 0
    assert result.failed == 0
