"""The demo must not take another stack's call for its own."""

import socket
from pathlib import Path

import pytest

from loadtest.demo import DemoError, main, require_free_ports
from loadtest.stack import free_port

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


def settings() -> dict[str, str]:
    """Ports that nobody has."""
    return {
        "HTTP_PORT": str(free_port(TCP)),
        "VOICE_AGENT_PORT": str(free_port(TCP)),
        "ARI_BASE": f"http://127.0.0.1:{free_port(TCP)}",
        "SIP_PORT": str(free_port(UDP)),
    }


def test_free_ports_are_fine() -> None:
    """Nothing is raised, and the ports stay free."""
    wanted = settings()
    require_free_ports(wanted)
    require_free_ports(wanted)


@pytest.mark.parametrize("variable", ["HTTP_PORT", "VOICE_AGENT_PORT", "ARI_BASE", "SIP_PORT"])
def test_another_stack_is_named(variable: str) -> None:
    """A port that another program has stops the start, with the variable's name."""
    wanted = settings()
    port = int(wanted[variable].rpartition(":")[2])
    with socket.socket(socket.AF_INET, UDP if variable == "SIP_PORT" else TCP) as other:
        other.bind(("127.0.0.1", port))
        if variable != "SIP_PORT":
            other.listen()
        with pytest.raises(
            DemoError, match=f"{variable} means port {port}: Address already in use"
        ):
            require_free_ports(wanted)


def test_a_port_that_is_none() -> None:
    """A clear line instead of a traceback."""
    with pytest.raises(DemoError, match="HTTP_PORT means port 'abc', allowed is 1 to 65535"):
        require_free_ports({**settings(), "HTTP_PORT": "abc"})


def test_a_call_without_a_stack(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`make call` says what is missing, and how to start it."""
    port = settings()["HTTP_PORT"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setenv("HTTP_PORT", port)
        patch.setattr("sys.argv", ["demo", "--call-only"])
        assert main() == 1
    said = capsys.readouterr().err
    assert f"http://127.0.0.1:{port}/health: no answer: " in said
    assert "`make run`" in said
