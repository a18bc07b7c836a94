"""Requests to the operator's web server: signed, bounded, tried again, never elsewhere."""

import pytest

from supervisor.phone import notices
from supervisor.phone.allowed_hosts import AllowedHosts, read_hosts
from supervisor.phone.notices import Notices
from supervisor.phone.phone_call import Direction, PhoneCall
from supervisor.phone.phone_record import Notice, PhoneRecord
from supervisor.phone.webhooks import PublicResolver, WebhookError, Webhooks
from tests.calls.web import TOKEN, web_site

HERE = read_hosts("127.0.0.1", [])


def a_record() -> PhoneRecord:
    """Of a call."""
    return PhoneRecord(PhoneCall("CA1", "AC1", Direction.INBOUND, "+1", "+2", created_at=1.0))


async def test_post_and_get_are_signed() -> None:
    """A form by POST, and in the query by GET."""
    async with web_site() as site:
        site.pages["/a"] = b"<Response/>"
        async with Webhooks(HERE, TOKEN) as webhooks:
            for method in ("POST", "GET"):
                assert await webhooks.ask(f"{site.base}/a", method, {"b": "2", "a": "1"})
        assert [asked.signed for asked in site.asked] == [True, True]


@pytest.mark.parametrize(
    ("hosts", "path", "words"),
    [
        (HERE, "/failing", "answered with 500"),
        (read_hosts("example.com", []), "/", "isn't in WEBHOOK_HOSTS"),
        (read_hosts("*", []), "/", "isn't in WEBHOOK_HOSTS"),
    ],
)
async def test_no_usable_answer(hosts: AllowedHosts, path: str, words: str) -> None:
    """The error says why."""
    async with web_site() as site:
        site.failing["/failing"] = 1
        async with Webhooks(hosts, "") as webhooks:
            with pytest.raises(WebhookError, match=words):
                await webhooks.ask(site.base + path, "POST", {})


async def test_other_settings_count_at_once() -> None:
    """Hosts and token can be renewed while the connections stay."""
    async with web_site() as site, Webhooks(read_hosts("example.com", []), "another") as webhooks:
        site.pages["/a"] = b"<Response/>"
        with pytest.raises(ValueError, match="isn't in WEBHOOK_HOSTS"):
            webhooks.check(f"{site.base}/a")
        webhooks.renew(HERE, TOKEN)
        assert await webhooks.ask(f"{site.base}/a", "POST", {"a": "1"})
        assert [asked.signed for asked in site.asked] == [True]
        with pytest.raises(ValueError, match="isn't in WEBHOOK_HOSTS"):
            webhooks.check("https://example.com/a")


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/a", "http://[127.0.0.1/", "ftp://a/b"])
async def test_what_was_pressed_is_in_no_error(url: str) -> None:
    """Of a URL that can't be asked the text has no query."""
    async with Webhooks(read_hosts("127.0.0.1", []), "") as webhooks:
        with pytest.raises(WebhookError) as refused:
            await webhooks.ask(url, "GET", {"Digits": "739146"})
    assert "739146" not in str(refused.value)


async def test_a_name_with_a_private_address() -> None:
    """A pattern doesn't reach what only looks public."""
    resolver = PublicResolver(AllowedHosts(frozenset(), ("*",)))
    with pytest.raises(OSError, match="localhost has private addresses only"):
        await resolver.resolve("localhost", 80)
    await resolver.close()
    named = PublicResolver(AllowedHosts(frozenset({"localhost"})))
    assert await named.resolve("localhost", 80)
    await named.close()


async def test_callbacks_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing server is asked again, and later callbacks wait for the earlier."""
    monkeypatch.setattr(notices, "RETRY_AFTER_S", (0.01, 0.01))
    async with web_site() as site:
        site.failing["/cb"] = 2
        record = a_record()
        async with Webhooks(HERE, TOKEN) as webhooks:
            sending = Notices(webhooks, lambda _: None)
            for number in range(3):
                sending.add(record, Notice(f"{site.base}/cb", "POST", {"n": str(number)}))
            await sending.close(10.0)
        assert [form["n"] for form in site.of("/cb")] == ["0", "0", "0", "1", "2"]
