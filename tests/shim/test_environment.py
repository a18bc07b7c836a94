"""Settings from the environment: what is read, and what one clear error says."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest

from shim import environment
from shim.config import ShimConfig, tls_context
from shim.environment import ConfigError


class Settings(msgspec.Struct, frozen=True):
    """One field of each kind."""

    run_dir: str
    http_port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 8080
    grace: Annotated[float, msgspec.Meta(gt=0, le=60)] = 5
    verbose: bool = False
    mode: Literal["json", "text"] = "json"
    auth_token: Annotated[str, msgspec.Meta(min_length=8)] = "12345678"


def test_defaults() -> None:
    """Only what has no default must be set; foreign variables are ignored."""
    settings = environment.read(Settings, {"RUN_DIR": "/run/x", "PATH": "/bin", "grace": "7"})
    assert settings == Settings("/run/x")


def test_values() -> None:
    """Numbers, truth values and words are converted from their text."""
    environ = {
        "RUN_DIR": "/run/x",
        "HTTP_PORT": "1",
        "GRACE": "0.25",
        "VERBOSE": "true",
        "MODE": "text",
    }
    assert environment.read(Settings, environ) == Settings("/run/x", 1, 0.25, True, "text")


def test_empty_is_not_set() -> None:
    """`HTTP_PORT=` in a file means the default."""
    assert environment.read(Settings, {"RUN_DIR": "/run/x", "HTTP_PORT": ""}).http_port == 8080


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("HTTP_PORT", "0", ">= 1"),
        ("HTTP_PORT", "65536", "<= 65535"),
        ("HTTP_PORT", "eighty", "`int`"),
        ("HTTP_PORT", "80.5", "`int`"),
        ("HTTP_PORT", " 80", "`int`"),
        ("GRACE", "0", "> 0"),
        ("GRACE", "61", "<= 60"),
        ("GRACE", "soon", "`float`"),
        ("GRACE", "nan", "0"),
        ("GRACE", "inf", "60"),
        ("GRACE", "-inf", "0"),
        ("VERBOSE", "perhaps", "true or false"),
        ("MODE", "xml", "json or text"),
    ],
)
def test_bad_value(name: str, value: str, allowed: str) -> None:
    """The error names variable, value and what is allowed."""
    with pytest.raises(ConfigError) as caught:
        environment.read(Settings, {"RUN_DIR": "/run/x", name: value})
    assert str(caught.value).startswith(f"{name} is {value!r}: ")
    assert allowed in str(caught.value)


def test_missing_value() -> None:
    """The error names the variable that has no default."""
    with pytest.raises(ConfigError, match=r"^RUN_DIR is not set, and there is no default$"):
        environment.read(Settings, {})


def test_secret_is_never_shown() -> None:
    """Not in an error, not in the settings as people see them."""
    with pytest.raises(ConfigError, match=r"^AUTH_TOKEN is \(hidden\): ") as caught:
        environment.read(Settings, {"RUN_DIR": "/run/x", "AUTH_TOKEN": "hunter2"})
    assert "hunter2" not in str(caught.value)
    shown = environment.redacted(Settings("/run/x", auth_token="a-long-secret"))
    assert (shown["AUTH_TOKEN"], shown["HTTP_PORT"]) == ("***", 8080)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ORPHAN_GRACE", "0"),
        ("STREAM_HANDSHAKE_TIMEOUT", "-1"),
        ("STREAM_CONNECT_BUDGET", "3601"),
        ("STREAM_MAX_MESSAGE_BYTES", "4095"),
        ("STREAM_BUFFER_SECONDS", "0"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "CHATTY"),
    ],
)
def test_worker_settings_are_bounded(name: str, value: str) -> None:
    """Each of the worker's own settings refuses what it can't work with."""
    with pytest.raises(ConfigError, match=f"^{name} is '{value}': "):
        environment.read(ShimConfig, {name: value})


def test_worker_defaults() -> None:
    """An empty environment gives a working configuration: 10 minutes may wait, 1 MiB a message."""
    config = environment.read(ShimConfig, {})
    settings, link = config.stream_settings(), config.link_settings()
    assert (settings.buffer_limit_ms, settings.connect_budget_s) == (600_000, 12)
    assert (link.handshake_timeout_s, link.max_message_bytes) == (10, 1 << 20)


@pytest.mark.parametrize("field", ["stream_ca_file", "stream_client_cert"])
def test_certificate_files(field: str, tmp_path: Path) -> None:
    """A file that is missing, or no certificate, is one error that names variable and file."""
    for path in (f"{tmp_path}/none.pem", __file__):
        config = msgspec.structs.replace(ShimConfig(), **{field: path})
        with pytest.raises(ConfigError, match=f"^{field.upper()} is '{path}': "):
            tls_context(config)


def test_hold_sound(tmp_path: Path) -> None:
    """The file becomes frames, its rest filled up with silence; size and presence are checked."""
    path = tmp_path / "hold.ulaw"
    config = ShimConfig(stream_hold_sound=str(path))
    with pytest.raises(ConfigError, match=r"^STREAM_HOLD_SOUND is '.*hold.ulaw': No such file"):
        config.stream_settings()
    path.write_bytes(b"\x01" * 159)
    with pytest.raises(ConfigError, match=r": 159 bytes, allowed are 160 to 4800000 bytes"):
        config.stream_settings()
    path.write_bytes(b"\x01" * 161)
    assert config.stream_settings().hold_frames == (b"\x01" * 160, b"\x01" + b"\xff" * 159)
    assert ShimConfig().stream_settings().hold_frames == ()
