"""All that is wrong with the settings is said at once."""

from pathlib import Path

from deploy.doctor.settings import read_settings

NEEDED = {"ARI_USER": "a", "ARI_PASS": "b", "ECS_MEDIA_WSS_URL": "wss://voice.example/x"}


def said(environ: dict[str, str], directory: Path) -> list[str]:
    """What the findings say."""
    return [finding.what for finding in read_settings(environ, directory).findings]


def test_all_well(tmp_path: Path) -> None:
    """Nothing is said of settings that all programs take."""
    settings = read_settings(NEEDED, tmp_path)
    assert settings.findings == []
    assert None not in (settings.supervisor, settings.worker, settings.asterisk)


def test_several_at_once(tmp_path: Path) -> None:
    """A refused value doesn't hide the next, and none is said twice; the rest is in force."""
    bad = {"ON_STREAM_END": "explode", "WORKERS": "-1", "RTP_PORT_END": "x", "ORPHAN_GRACE": "0"}
    settings = read_settings({**NEEDED, **bad, "AGENT_WAIT_SECONDS": "999"}, tmp_path)
    variables = sorted(finding.what.split()[0] for finding in settings.findings)
    assert variables == sorted([*bad, "AGENT_WAIT_SECONDS"])
    assert settings.supervisor is not None
    assert settings.supervisor.ari_user == "a"


def test_nothing_set(tmp_path: Path) -> None:
    """What has no default is asked for, and nobody fails."""
    settings = read_settings({}, tmp_path)
    assert settings.supervisor is None
    assert any("ARI_USER is not set" in finding.what for finding in settings.findings)


def test_what_shows_only_by_trying(tmp_path: Path) -> None:
    """An address that isn't ours, and a URL that ARI can't have: the rest is in force."""
    bad = {"EXTERNAL_MEDIA_HOST": "127.0.0.300", "ARI_BASE": "ftp://127.0.0.1"}
    settings = read_settings({**NEEDED, **bad, "ALLOW_UNENCRYPTED": "true"}, tmp_path)
    assert sorted(finding.what.split()[0] for finding in settings.findings) == sorted(bad)
    assert settings.supervisor is not None
    assert settings.supervisor.ari_base == "http://127.0.0.1:8088"


def test_overlap(tmp_path: Path) -> None:
    """Ranges that are right each by itself, but have ports in common."""
    (found,) = said({**NEEDED, "ASTERISK_RTP_END": "20010"}, tmp_path)
    assert "overlap" in found


def test_slip_of_the_pen(tmp_path: Path) -> None:
    """A name in .env that only looks like one that is read."""
    (tmp_path / ".env").write_text("RTP_PORT_STRAT=20000\nPATH_OF_MY_OWN=1\n")
    (found,) = said(NEEDED, tmp_path)
    assert found == "RTP_PORT_STRAT in .env is read by no program"


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    """A password that Asterisk can't take is refused, not repeated."""
    assert "se;cret" not in str(said({**NEEDED, "ARI_PASS": "se;cret"}, tmp_path))
