"""The signature by which a voice server knows that a request is ours.

As Twilio computes `X-Twilio-Signature` ("Validating requests are coming from Twilio"):
base64 of the HMAC-SHA1 of the exact URL, with the auth token as key.
"""

import base64
import hashlib
import hmac


def sign_url(auth_token: str, url: str) -> str:
    """The signature of a WebSocket handshake, which carries no form parameters."""
    digest = hmac.new(auth_token.encode(), url.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode("ascii")
