"""Rendering Asterisk's configuration and refusing bad values."""

import re
from pathlib import Path

import msgspec
import pytest

from deploy.asterisk_config import (
    TEMPLATES,
    AsteriskValues,
    ConfigurationError,
    render,
    values_from_environment,
)
from deploy.conf_files import ConfTemplate

PASSWORD = {"ARI_PASS": "unguessable"}


def settings(text: str) -> dict[str, str]:
    """The `name = value` lines of a configuration file, comments taken away."""
    lines = (re.split(r"(?<!\\);", line)[0] for line in text.splitlines())
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    return {name.strip(): value.strip(" >") for name, value in pairs}


def test_every_template_is_rendered_completely(tmp_path: Path) -> None:
    """Each template becomes a file, and no placeholder of ours is left in it."""
    values = AsteriskValues(ari_pass="unguessable")
    render(values, tmp_path)
    names = sorted(file.name for file in tmp_path.iterdir() if file.is_file())
    assert names == [path.name for path in values.templates()]
    assert (tmp_path / "hold-music" / "chord.wav").is_file()
    assert "pjsip.conf" in names
    for file in tmp_path.glob("*.conf"):
        assert "@{" not in file.read_text()


def test_values_arrive_where_asterisk_reads_them(tmp_path: Path) -> None:
    """Addresses, ports, names and the password stand in the right files."""
    environment = {
        "ARI_BASE": "http://127.0.0.1:8188",
        "ARI_USER": "me",
        "ARI_PASS": "p@ss${x}=@{y}",
        "ARI_APP": "my-app",
        "SIP_PORT": "5070",
        "ASTERISK_RTP_START": "12000",
        "ASTERISK_RTP_END": "12999",
    }
    render(values_from_environment(environment), tmp_path)
    http = settings((tmp_path / "http.conf").read_text())
    assert (http["bindaddr"], http["bindport"]) == ("127.0.0.1", "8188")
    ari = (tmp_path / "ari.conf").read_text()
    assert "[me]" in ari
    assert settings(ari)["password"] == "p@ss${x}=@{y}"
    assert settings((tmp_path / "pjsip_endpoints.conf").read_text())["bind"] == "127.0.0.1:5070"
    rtp = settings((tmp_path / "rtp.conf").read_text())
    assert (rtp["rtpstart"], rtp["rtpend"]) == ("12000", "12999")
    assert "Stasis(my-app," in (tmp_path / "extensions.conf").read_text()


def test_asterisks_own_placeholders_survive() -> None:
    """Variables, expressions and addresses of the dialplan are not ours to replace."""
    text = "Set(a=${EXTEN:1}) $[1 + 2] user@host @ @{ari_app}"
    assert ConfTemplate(text).substitute(ari_app="x") == (
        "Set(a=${EXTEN:1}) $[1 + 2] user@host @ x"
    )


def test_an_unknown_or_broken_placeholder_is_an_error() -> None:
    """A typing error in a template doesn't reach Asterisk."""
    with pytest.raises(KeyError, match="ari_ap"):
        ConfTemplate("@{ari_ap}").substitute(ari_app="x")
    with pytest.raises(ValueError, match="Invalid placeholder"):
        ConfTemplate("@{ari app}").substitute(ari_app="x")


def test_only_the_owner_can_read_the_result(tmp_path: Path) -> None:
    """The password is in it."""
    target = tmp_path / "etc"
    target.mkdir(mode=0o755)
    render(AsteriskValues(ari_pass="unguessable"), target)
    assert target.stat().st_mode & 0o777 == 0o700
    files = [file for file in target.iterdir() if file.is_file()]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_rendering_again_leaves_nothing_old(tmp_path: Path) -> None:
    """A file that is no template any more would still be read by Asterisk."""
    (tmp_path / "sip.conf").write_text("old")
    render(AsteriskValues(ari_pass="first"), tmp_path)
    render(AsteriskValues(ari_pass="second"), tmp_path)
    assert not (tmp_path / "sip.conf").exists()
    assert settings((tmp_path / "ari.conf").read_text())["password"] == "second"


def test_the_templates_hold_no_secret() -> None:
    """Every password in them is a placeholder."""
    for template in TEMPLATES.rglob("*.conf"):
        for name, value in settings(template.read_text()).items():
            if re.search(r"pass(word)?$|secret|token", name):
                assert re.fullmatch(r"@\{[a-z_]+\}", value), f"{template.name}: {name}"


def test_ari_is_reachable_from_this_machine_only() -> None:
    """Without a setting, HTTP and SIP listen on loopback."""
    values = values_from_environment(PASSWORD)
    assert (values.http_host, values.http_port) == ("127.0.0.1", 8088)
    assert (values.sip_host, values.sip_port) == ("127.0.0.1", 5060)


def test_empty_variables_take_the_default() -> None:
    """As an unset one in an environment file does."""
    environment = {**PASSWORD, "SIP_PORT": "", "ARI_BASE": "", "ARI_APP": ""}
    assert values_from_environment(environment) == values_from_environment(PASSWORD)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"ARI_PASS": ""}, "ARI_PASS is not set: "),
        ({"SIP_PORT": "sip"}, "SIP_PORT is 'sip': .* from 1024 to 65535"),
        ({"SIP_PORT": "80"}, "SIP_PORT is '80': .* from 1024 to 65535"),
        ({"ASTERISK_RTP_END": "70000"}, "ASTERISK_RTP_END is '70000': "),
        ({"RTP_PORT_START": "٣٣٣٣"}, "RTP_PORT_START is "),
        ({"ARI_USER": "a]\n[b"}, "ARI_USER is .*letters, digits"),
        ({"ARI_APP": "a,b"}, "ARI_APP is 'a,b': "),
        ({"ARI_BASE": "http://192.0.2.1:8088"}, "ARI_BASE is .*loopback"),
        ({"ARI_BASE": "https://127.0.0.1:8088"}, "ARI_BASE is .*http://HOST:PORT"),
        ({"ARI_BASE": "http://127.0.0.1"}, "ARI_BASE is .*http://HOST:PORT"),
        ({"ARI_BASE": "http://example.org:8088"}, "ARI_BASE is .*loopback"),
        ({"ARI_BASE": "nonsense"}, "ARI_BASE is 'nonsense': "),
    ],
)
def test_bad_values_are_named(environment: dict[str, str], message: str) -> None:
    """One error names the variable, the value and what is allowed."""
    with pytest.raises(ConfigurationError, match=message):
        values_from_environment({**PASSWORD, **environment})


def test_a_bad_password_is_not_shown() -> None:
    """`;` would begin a comment in ari.conf; the error must not repeat the password."""
    with pytest.raises(ConfigurationError, match="ARI_PASS") as raised:
        values_from_environment({"ARI_PASS": "half;hidden"})
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize(
    ("asterisk", "workers"),
    [
        ((10000, 19999), (19999, 25000)),
        ((20000, 29999), (10000, 20000)),
        ((10000, 19999), (12000, 13000)),
        ((12000, 13000), (10000, 19999)),
        ((10000, 20000), (20001, 25000)),  # RTP on 20000 means RTCP on 20001
    ],
)
def test_overlapping_ranges_are_refused(
    asterisk: tuple[int, int], workers: tuple[int, int]
) -> None:
    """Asterisk and the workers must never be able to take the same port."""
    with pytest.raises(ConfigurationError, match=r"overlap.*no port in common") as raised:
        values_from_environment(port_ranges(asterisk, workers))
    assert f"{asterisk[0]}..{asterisk[1]}" in str(raised.value)
    assert f"{workers[0]}..{workers[1]}" in str(raised.value)


def test_neighbouring_ranges_are_accepted() -> None:
    """Both ends belong to a range, nothing beyond."""
    values = values_from_environment(port_ranges((10000, 19999), (20000, 20001)))
    assert values.worker_rtp_start == values.rtp_end + 1


@pytest.mark.parametrize(
    ("asterisk", "workers", "message"),
    [
        ((10000, 10078), (20000, 20999), "at least 80 ports"),
        ((10000, 9999), (20000, 20999), "at least 80 ports"),
        ((10000, 19999), (20999, 20000), "RTP_PORT_END is 20999..20000"),
    ],
)
def test_ranges_without_room_are_refused(
    asterisk: tuple[int, int], workers: tuple[int, int], message: str
) -> None:
    """Too few ports, or an end below its start."""
    with pytest.raises(ConfigurationError, match=message):
        values_from_environment(port_ranges(asterisk, workers))


@pytest.mark.parametrize(("ports", "calls"), [(80, 10), (400, 90), (10000, 2250)])
def test_calls_are_limited_by_the_ports_of_their_legs(ports: int, calls: int) -> None:
    """Four ports a call, a tenth and at least 40 kept free: Asterisk must not run out of them."""
    values = AsteriskValues(ari_pass="unguessable", rtp_start=10000, rtp_end=10000 + ports - 1)
    assert values.max_calls == calls


def test_values_are_frozen() -> None:
    """They are read once, at the start."""
    assert msgspec.structs.fields(AsteriskValues)
    with pytest.raises(AttributeError):
        AsteriskValues(ari_pass="x").sip_port = 1  # type: ignore[misc]


def port_ranges(asterisk: tuple[int, int], workers: tuple[int, int]) -> dict[str, str]:
    """An environment with both ranges."""
    names = ("ASTERISK_RTP_START", "ASTERISK_RTP_END", "RTP_PORT_START", "RTP_PORT_END")
    return PASSWORD | dict(zip(names, map(str, (*asterisk, *workers)), strict=True))
