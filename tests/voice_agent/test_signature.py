"""Signatures, against the one that Twilio's own package computes."""

from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from voice_agent.signature import is_signed, sign, urls_of


def test_as_twilio_signs() -> None:
    """Byte for byte; a signature that is not even ASCII is just wrong."""
    url = "wss://voice.example.com/media-stream?token=x"
    assert sign("secret", url) == RequestValidator("secret").compute_signature(url, {})
    assert is_signed(sign("secret", url), "secret", ("wss://other", url))
    assert not is_signed("ü", "secret", (url,))
    assert not is_signed("", "secret", (url,))


def test_the_query_belongs_to_the_public_url() -> None:
    """Unless that has one of its own."""
    assert urls_of("h", "/p?a=b", "wss://x/y") == ("wss://x/y?a=b",)
    assert urls_of("h", "/p?a=b", "wss://x/y?c=d") == ("wss://x/y?c=d",)
    assert urls_of("h", "/p", None) == ("wss://h/p", "ws://h/p")
