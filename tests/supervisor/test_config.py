"""The supervisor's settings: what is refused, in which words, and what is never shown."""

from pathlib import Path

import msgspec
import pytest

from shim import environment
from shim.config import ShimConfig
from shim.environment import ConfigError
from supervisor.config import RENEWABLE, SupervisorConfig, check

GOOD = {
    "ARI_USER": "voice-agent",
    "ARI_PASS": "sesame",
    "ECS_MEDIA_WSS_URL": "wss://voice.example/media-stream",
}
WORKERS = 2


def read(**changes: str) -> SupervisorConfig:
    """Read and check settings that differ from good ones."""
    config = environment.read(SupervisorConfig, {**GOOD, **changes})
    check(config, WORKERS)
    return config


def refusal(**changes: str) -> str:
    """What the settings are refused with."""
    with pytest.raises(ConfigError) as refused:
        read(**changes)
    return str(refused.value)


def test_defaults() -> None:
    """Three variables are needed; the rest has defaults for a system on one machine."""
    config = read()
    assert config.ari_base == "http://127.0.0.1:8088"
    assert (config.rtp_port_start, config.rtp_port_end) == (20_000, 29_999)
    assert config.external_media_host == "127.0.0.1"
    assert config.custom_parameters() == {}


@pytest.mark.parametrize("name", list(GOOD))
def test_what_must_be_set(name: str) -> None:
    """A variable without a default is asked for by its name; empty counts as not set."""
    assert refusal(**{name: ""}) == f"{name} is not set, and there is no default"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("HTTP_PORT", "70000", "<= 65535"),
        ("HTTP_PORT", "http", "Expected `int`"),
        ("RTP_PORT_START", "0", ">= 1"),
        ("RTP_PORT_START", "65536", "<= 65535"),
        ("RTP_PORT_END", "-1", ">= 1"),
        ("WORKERS", "2000", "<= 1024"),
        ("WORKERS", "two", "Expected `int`"),
        ("MAX_CALLS", "-1", ">= 0"),
        ("SETUP_TIMEOUT", "0", "> 0"),
        ("SETUP_TIMEOUT", "nan", "Expected `float`"),
        ("DRAIN_SECONDS", "90000", "<= 86400"),
        ("ON_STREAM_END", "ring", "allowed is hangup or continue"),
        ("LOG_FORMAT", "xml", "allowed is json or text"),
        ("LOG_LEVEL", "debug", "allowed is DEBUG or INFO or WARNING or ERROR"),
        ("SHARE_NUMBERS", "maybe", "allowed is true or false"),
        ("ALLOW_UNENCRYPTED", "2", "allowed is true or false"),
        ("TWILIO_ACCOUNT_SID", "AC1", "^AC[0-9a-f]{32}$"),
        ("ARI_BASE", "127.0.0.1:8088", "allowed is http://host:port"),
        ("ARI_BASE", "ftp://asterisk", "allowed is http://host:port"),
        ("ARI_BASE", "http://asterisk:99999", "allowed is http://host:port"),
        ("ARI_USER", "a:b", "allowed is a name without a colon"),
        ("ARI_APP", "voice agent", "allowed is one name without commas and spaces"),
        ("ECS_MEDIA_WSS_URL", "https://voice.example", "allowed is ws://host[:port]/... or wss://"),
        ("ECS_MEDIA_WSS_URL", "wss://", "allowed is ws://host[:port]/... or wss://"),
        ("ECS_MEDIA_WSS_URL", "wss://[::1/x", "allowed is ws://host[:port]/... or wss://"),
        (
            "ECS_MEDIA_WSS_URL",
            "ws://voice.example/x",
            "allowed is wss://, or ws:// to this machine",
        ),
        ("EXTERNAL_MEDIA_HOST", "192.0.2.1", "allowed is a loopback address"),
        ("HTTP_HOST", "0.0.0.0", "allowed is a loopback address, or HTTP_TLS_CERT, or"),
        ("API_REQUESTS_PER_SECOND", "0", "> 0"),
        ("STREAM_PARAMETERS", "tenant=a", "allowed is a JSON object of strings"),
        ("STREAM_PARAMETERS", '{"tenant": 1}', "allowed is a JSON object of strings"),
    ],
)
def test_a_bad_value(name: str, value: str, allowed: str) -> None:
    """Each is refused in one line that names variable, value and what is allowed."""
    text = refusal(**{name: value})
    assert text.startswith(f"{name} is ")
    assert "\n" not in text
    assert allowed in text
    assert value in text or value == "wss://[::1/x"  # what is no URL is not shown whole


def test_too_few_ports() -> None:
    """Each worker needs a port; both ends of the range are named."""
    text = refusal(RTP_PORT_START="20000", RTP_PORT_END="20000")
    assert "RTP_PORT_START is 20000 and RTP_PORT_END is 20000: 1 ports" in text
    assert "at least one for each of the 2 workers" in text
    assert "0 ports" in refusal(RTP_PORT_START="20001", RTP_PORT_END="20000")


def test_asterisks_ports() -> None:
    """Asterisk's own range must have room for a call."""
    text = refusal(ASTERISK_RTP_START="20000", ASTERISK_RTP_END="10000")
    assert text.startswith("ASTERISK_RTP_START is 20000 and ASTERISK_RTP_END is 10000, allowed is")


@pytest.mark.parametrize(
    "url", ["ws://127.0.0.1:8081/x", "ws://localhost/x", "ws://[::1]:8081/x", "wss://voice.example"]
)
def test_plain_websockets_stay_on_this_machine(url: str) -> None:
    """Loopback needs no encryption, everything else has it."""
    assert read(ECS_MEDIA_WSS_URL=url).ecs_media_wss_url == url


def test_an_encrypted_network_is_the_operators_word() -> None:
    """With ALLOW_UNENCRYPTED plain media may leave the machine."""
    config = read(
        ALLOW_UNENCRYPTED="true",
        ECS_MEDIA_WSS_URL="ws://voice.example/x",
        EXTERNAL_MEDIA_HOST="10.0.0.5",
    )
    assert config.allow_unencrypted


def test_http_beyond_this_machine() -> None:
    """With a certificate, or on an encrypted network."""
    assert read(HTTP_HOST="0.0.0.0", HTTP_TLS_CERT="/etc/ots.pem").http_host == "0.0.0.0"
    assert read(HTTP_HOST="0.0.0.0", ALLOW_UNENCRYPTED="true").http_host == "0.0.0.0"


def test_where_the_audit_log_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is said, or nowhere, or where it outlives a reboot if that is prepared."""
    assert read(AUDIT_LOG="/x/y.jsonl").audit_path() == Path("/x/y.jsonl")
    assert read(AUDIT_LOG="off").audit_path() is None
    monkeypatch.setattr("supervisor.config.AUDIT_DIR", tmp_path)
    assert read(RUN_DIR="/run/ots").audit_path() == tmp_path / "audit.jsonl"
    monkeypatch.setattr("supervisor.config.AUDIT_DIR", tmp_path / "missing")
    assert read(RUN_DIR="/run/ots").audit_path() == Path("/run/ots/audit.jsonl")


def test_recording_needs_a_place() -> None:
    """All calls can't be recorded to nowhere."""
    text = refusal(RECORD_CALLS="true")
    assert text.startswith("RECORD_CALLS is true, but RECORDING_DIR is not set; allowed is")
    assert read(RECORD_CALLS="true", RECORDING_DIR="/somewhere").record_calls


def test_recording_needs_a_key(tmp_path: Path) -> None:
    """Workers' settings are refused without a directory, without a key, with a key that is none."""
    for changes, what in (
        ({"RECORDING_DIR": "/nowhere"}, "RECORDING_DIR is '/nowhere', allowed is a directory"),
        ({}, "nothing seals what is recorded; allowed is that with RECORDING_KEY_FILE or"),
        ({"RECORDING_KEY_FILE": "/nowhere"}, "RECORDING_KEY_FILE is '/nowhere': No such file"),
        ({"RECORDING_DATA_KEY": "AAEC"}, "RECORDING_DATA_KEY is (hidden): it has 3 bytes"),
    ):
        variables = {"RECORDING_DIR": str(tmp_path), **changes}
        with pytest.raises(ConfigError) as refused:
            environment.read(ShimConfig, variables).recording_settings()
        assert what in str(refused.value)


def test_secrets_are_not_shown() -> None:
    """Neither an error nor /health shows a password."""
    assert environment.redacted(read())["ARI_PASS"] == "***"
    assert "sesame" not in str(environment.redacted(read()))
    assert "sesame" not in repr(read().ari_settings())


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("wss://voice.example/x", "wss://voice.example/x"),
        ("wss://me:sesame@voice.example:8443/x", "wss://***@voice.example:8443/x"),
        ("wss://sesame@voice.example/x", "wss://***@voice.example/x"),
        ("wss://voice.example/x?token=sesame&a=b", "wss://voice.example/x?***"),
        ("wss://voice.example/x#sesame", "wss://voice.example/x#***"),
    ],
)
def test_urls_are_shown_without_their_secrets(value: str, shown: str) -> None:
    """User, password and query of a URL may be secrets: /health hides them."""
    assert environment.redacted(read(ECS_MEDIA_WSS_URL=value))["ECS_MEDIA_WSS_URL"] == shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ARI_BASE", "http://me:sesame@asterisk:8088"),
        ("ARI_BASE", "http://asterisk:8088?api_key=sesame"),
        ("ECS_MEDIA_WSS_URL", "ws://me:sesame@voice.example/x?token=sesame"),
        ("ECS_MEDIA_WSS_URL", "http://me:sesame@voice.example/"),
        ("ECS_MEDIA_WSS_URL", "wss://me:sesame@[::1/"),
    ],
)
def test_errors_hide_what_a_url_hides(name: str, value: str) -> None:
    """A URL that is refused is named, without its secrets."""
    text = refusal(**{name: value})
    assert text.startswith(f"{name} ")
    assert "sesame" not in text


def test_workers_get_cpus_in_turn() -> None:
    """By default one worker per usable CPU; more workers than CPUs share them."""
    assert read().worker_cpus([2, 5]) == (2, 5)
    assert read(WORKERS="3").worker_cpus([2, 5]) == (2, 5, 2)
    assert read(WORKERS="1").worker_cpus([2, 5]) == (2,)


def test_what_needs_a_restart() -> None:
    """Settings that can't change while calls are up are named, the others are taken over."""
    names = {field.name for field in msgspec.structs.fields(SupervisorConfig)}
    assert names >= RENEWABLE
    before = read()
    assert before.fixed_differences(read(MAX_CALLS="5", ON_STREAM_END="continue")) == []
    assert before.fixed_differences(read(HTTP_PORT="81", MAX_CALLS="5")) == ["HTTP_PORT"]


def test_the_run_directory() -> None:
    """It is the user's own by default."""
    assert read(RUN_DIR="/run/ots").run_path().as_posix() == "/run/ots"
    assert read().run_path().name.startswith("open-telephony-stack-")
