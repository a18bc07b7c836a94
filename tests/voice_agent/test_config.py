"""Settings from literal environments."""

import pytest

from voice_agent.config import Config, ConfigError, read_config

AGENTS = ("offline", "openai")


def test_defaults() -> None:
    """An empty environment, and empty variables, are enough."""
    expected = Config("127.0.0.1", 8081, "/media-stream", "offline")
    assert read_config({}, AGENTS) == expected
    assert read_config({"VOICE_AGENT_PORT": "", "AGENT": ""}, AGENTS) == expected


def test_all_settings() -> None:
    """Other variables are nobody's business here."""
    environ = {
        "OPENAI_API_KEY": "sk",
        "VOICE_AGENT_HOST": "::1",
        "VOICE_AGENT_PORT": "0",
        "VOICE_AGENT_PATH": "/calls/stream",
        "AGENT": "openai",
        "HOME": "/root",
    }
    assert read_config(environ, AGENTS) == Config(
        "::1", 0, "/calls/stream", "openai", openai_api_key="sk"
    )


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("VOICE_AGENT_HOST", "http://x", "a host name or an IP address"),
        ("VOICE_AGENT_HOST", "a b", "a host name or an IP address"),
        ("VOICE_AGENT_PORT", "65536", "a whole number from 0 to 65535"),
        ("VOICE_AGENT_PORT", "-1", "a whole number from 0 to 65535"),
        ("VOICE_AGENT_PORT", "80.5", "a whole number from 0 to 65535"),
        ("VOICE_AGENT_PORT", "http", "a whole number from 0 to 65535"),
        ("VOICE_AGENT_PATH", "media", "a path like /media-stream"),
        ("VOICE_AGENT_PATH", "/a?b", "a path like /media-stream"),
        ("VOICE_AGENT_PATH", "/health", "not /health"),
        ("AGENT", "gpt", "offline or openai"),
    ],
)
def test_bad_values_are_named(variable: str, value: str, allowed: str) -> None:
    """One line: variable, value, what is allowed."""
    with pytest.raises(ConfigError) as caught:
        read_config({variable: value}, AGENTS)
    text = str(caught.value)
    assert text.startswith(f"{variable} is {value!r}: allowed is ")
    assert allowed in text
    assert "\n" not in text
