"""The production configuration as text: what the operator's values become, and what is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.asterisk_config import TEMPLATES, ConfigurationError, render, values_from_environment
from deploy.asterisk_version import complaint_about_version
from tests.asterisk_instance import CHECKOUT

INBOUND = {
    "ARI_PASS": "unguessable",
    "SIP_CERT_FILE": "/etc/asterisk/keys/current/cert.pem",
    "SIP_KEY_FILE": "/etc/asterisk/keys/current/key.pem",
    "CHIME_IN_ADDRESSES": "192.0.2.0/24, 198.51.100.7 2001:db8::/32",
}
OUTBOUND = {
    "CHIME_OUT_HOST": "abc.voiceconnector.chime.aws",
    "CHIME_OUT_USER": "me",
    "CHIME_OUT_PASS": "p@ss=word",
}


def rendered(directory: Path, environment: dict[str, str]) -> dict[str, str]:
    """The configuration's files by name."""
    render(values_from_environment(environment), directory)
    return {file.name: file.read_text() for file in directory.glob("*.conf")}


def lines(text: str) -> list[str]:
    """Without comments, blank lines and indentation."""
    return [line.strip() for line in text.splitlines() if line.strip() and line[0] != ";"]


def test_the_trunk(tmp_path: Path) -> None:
    """TLS only; callers are known by their addresses; keys of SRTP are demanded."""
    endpoints = lines(rendered(tmp_path, INBOUND)["pjsip_endpoints.conf"])
    assert [line for line in endpoints if line.startswith("protocol")] == ["protocol = tls"]
    assert "bind = 0.0.0.0:5061" in endpoints
    assert [line for line in endpoints if line.startswith("match")] == [
        "match = 192.0.2.0/24",
        "match = 198.51.100.7/32",
        "match = 2001:db8::/32",
    ]
    assert "media_encryption = sdes" in endpoints
    assert "media_encryption_optimistic = no" in endpoints


def test_no_phone_without_a_name(tmp_path: Path) -> None:
    """Neither the local phone nor the anonymous endpoint is there."""
    files = rendered(tmp_path, INBOUND | OUTBOUND)
    pjsip = "\n".join(text for name, text in files.items() if name.startswith("pjsip"))
    assert "local-phone" not in pjsip
    assert "anonymous" not in pjsip
    assert "endpoint_identifier_anonymous" not in files["modules.conf"]
    assert "autoload = no" in files["modules.conf"]


def test_calls_out_need_a_host(tmp_path: Path) -> None:
    """Without one there is no file for them; with one it has our credentials."""
    assert "pjsip_outbound.conf" not in rendered(tmp_path, INBOUND)
    outbound = lines(rendered(tmp_path, INBOUND | OUTBOUND)["pjsip_outbound.conf"])
    assert r"contact = sip:abc.voiceconnector.chime.aws:5061\;transport=tls" in outbound
    assert "username = me" in outbound
    assert "password = p@ss=word" in outbound
    assert "pjsip_outbound.conf" not in rendered(tmp_path, INBOUND), "old files are removed"


@pytest.mark.parametrize(("behind_proxy", "rewrite"), [("true", "no"), ("false", "yes")])
def test_the_way_of_later_requests(tmp_path: Path, behind_proxy: str, rewrite: str) -> None:
    """Through the proxy, where there is one; else on the connection that the call came on."""
    environment = {**INBOUND, "SIP_BEHIND_PROXY": behind_proxy}
    endpoints = rendered(tmp_path, environment)["pjsip_endpoints.conf"]
    assert f"rewrite_contact = {rewrite}" in endpoints


def test_every_template_is_used() -> None:
    """By one kind of configuration or another, and each stands in one folder only."""
    kinds = [INBOUND | OUTBOUND, {"ARI_PASS": "unguessable"}]
    used = {path for kind in kinds for path in values_from_environment(kind).templates()}
    assert used == set(TEMPLATES.rglob("*.conf"))
    for kind in kinds:
        names = [path.name for path in values_from_environment(kind).templates()]
        assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"SIP_KEY_FILE": ""}, "SIP_CERT_FILE is '/etc.*SIP_KEY_FILE is ''.*both"),
        ({"SIP_CERT_FILE": "cert.pem"}, "SIP_CERT_FILE is 'cert.pem': .*absolute"),
        ({"SIP_CERT_FILE": "/a;b"}, "SIP_CERT_FILE is '/a;b': "),
        ({"SIP_CERT_FILE": "", "SIP_KEY_FILE": ""}, "CHIME_IN_ADDRESSES is .* without SIP_CERT"),
        ({"CHIME_IN_ADDRESSES": ""}, "CHIME_IN_ADDRESSES is not set: .*e.g. 192.0.2.0/24"),
        ({"CHIME_IN_ADDRESSES": "192.0.2.1/24"}, "CHIME_IN_ADDRESSES has '192.0.2.1/24': "),
        ({"CHIME_IN_ADDRESSES": "0.0.0.0/0"}, "CHIME_IN_ADDRESSES has '0.0.0.0/0': .*world"),
        ({"CHIME_IN_ADDRESSES": "aws.example"}, "CHIME_IN_ADDRESSES has 'aws.example': "),
        ({"SIP_PUBLIC_HOST": "a b"}, "SIP_PUBLIC_HOST is 'a b': .*host name"),
        ({"SIP_TLS_PORT": "443"}, "SIP_TLS_PORT is '443': .*1024 to 65535"),
        ({"SIP_BEHIND_PROXY": "maybe"}, "SIP_BEHIND_PROXY is 'maybe': .*true or false"),
        ({"CHIME_OUT_USER": ""}, "CHIME_OUT_USER is not set: "),
        ({"CHIME_OUT_HOST": "http://a"}, "CHIME_OUT_HOST is 'http://a': "),
        ({"ASTERISK_RTP_END": "20001"}, "10000..20001.*20000..29999.*overlap"),
    ],
)
def test_bad_values_are_named(change: dict[str, str], message: str) -> None:
    """One error names the variable, the value and what is allowed."""
    with pytest.raises(ConfigurationError, match=message):
        values_from_environment(INBOUND | OUTBOUND | change)


def test_bad_credentials_are_not_shown() -> None:
    """`;` would begin a comment; the error must not repeat the password."""
    with pytest.raises(ConfigurationError, match="CHIME_OUT_PASS") as raised:
        values_from_environment({**INBOUND, **OUTBOUND, "CHIME_OUT_PASS": "half;hidden"})
    assert "hidden" not in str(raised.value)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The one command, as an operator runs it."""
    return subprocess.run(
        [sys.executable, "-m", "deploy.asterisk_config", *arguments],
        cwd=CHECKOUT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
    )


def test_one_command(tmp_path: Path) -> None:
    """A file of values becomes a directory of configuration; what is the operator's own stays."""
    values = tmp_path / "asterisk.env"
    values.write_text("".join(f"{name}='{value}'\n" for name, value in INBOUND.items()))
    own = tmp_path / "etc" / "custom" / "extensions.conf"
    own.parent.mkdir(parents=True)
    own.write_text("; mine\n")
    ended = run("--values", str(values), "--out", str(tmp_path / "etc"), SIP_TLS_PORT="5161")
    assert ended.returncode == 0, ended.stderr
    assert "bind = 0.0.0.0:5161" in (tmp_path / "etc" / "pjsip_endpoints.conf").read_text()
    assert own.read_text() == "; mine\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--values", "/no/such/file"), "--values is '/no/such/file': there is no such file"),
        (("--owner", "no-such-user"), "--owner is 'no-such-user': there is no such user"),
    ],
)
def test_a_command_in_vain(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    """One line says what is wrong; the exit code means that trying again won't help."""
    ended = run("--out", str(tmp_path), *arguments, ARI_PASS="unguessable")
    assert (ended.returncode, ended.stderr.strip()) == (78, message)


def test_an_old_asterisk_is_warned_of(tmp_path: Path) -> None:
    """By the version of the one on PATH; the configuration is written all the same."""
    program = tmp_path / "asterisk"
    program.write_text("#!/bin/sh\necho Asterisk 22.9.0\n")
    program.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    ended = run("--out", str(tmp_path / "etc"), PATH=path, ARI_PASS="unguessable")
    assert ended.returncode == 0
    assert "Asterisk 22.9.0 lacks security fixes: use at least" in ended.stderr
    assert (tmp_path / "etc" / "asterisk.conf").exists()


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("Asterisk 22.10.1+dfsg+~cs6.17.60671434-1", True),
        ("20.20.1", True),
        ("24.0.0", True),
        ("Asterisk 22.10.0~dfsg", False),
        ("21.12.2", False),
        ("18.26.4", False),
        ("23.4.0", False),
        ("Asterisk GIT-master-1234", True),
        ("", True),
    ],
)
def test_versions(text: str, good: bool) -> None:
    """Each branch has an oldest one with the fixes; builds without a number are not judged."""
    assert (complaint_about_version(text) is None) == good
