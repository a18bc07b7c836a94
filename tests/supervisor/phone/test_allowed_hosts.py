"""Whom webhooks may go to."""

import pytest

from supervisor.phone.allowed_hosts import read_hosts


def test_names_and_configured_urls() -> None:
    """The operator's own hosts are allowed, whatever address they have."""
    hosts = read_hosts("Web.example.com, 10.0.0.5", ["https://twiml.example.com/a", ""])
    for url in ("https://web.example.com/x", "http://10.0.0.5:8000/", "https://twiml.example.com"):
        assert hosts.check(url) == url
    with pytest.raises(ValueError, match=r"'evil.com' isn't in WEBHOOK_HOSTS, allowed: 10"):
        hosts.check("https://evil.com/")


def test_patterns_are_for_public_hosts() -> None:
    """`*` never reaches into the internal network."""
    hosts = read_hosts("*", [])
    assert hosts.check("https://example.com/")
    assert hosts.needs_public_address("example.com")
    for host in ("127.0.0.1", "169.254.169.254", "10.1.2.3", "[::1]", "localhost"):
        with pytest.raises(ValueError, match="WEBHOOK_HOSTS"):
            hosts.check(f"http://{host}/")
    sub = read_hosts("*.example.com", [])
    assert sub.check("https://a.example.com/")
    with pytest.raises(ValueError, match="WEBHOOK_HOSTS"):
        sub.check("https://badexample.com/")


@pytest.mark.parametrize(
    "url", ["", "/path", "ftp://h/", "https:///x", "http://h:99999/", "http://["]
)
def test_no_urls(url: str) -> None:
    """The error names the URL, and what is allowed."""
    with pytest.raises(ValueError, match="can't be used, allowed is https://host"):
        read_hosts("*", []).check(url)


def test_no_passwords() -> None:
    """What is before an @ isn't sent, and misleads readers."""
    with pytest.raises(ValueError, match="password"):
        read_hosts("h", []).check("https://user:secret@h/")
