"""The signature by which a voice server knows that a request is ours.

As Twilio computes `X-Twilio-Signature` ("Validating requests are coming from Twilio"):
base64 of the HMAC-SHA1 of the exact URL, followed by a form's parameters if there is one, with
the auth token as key.
"""

import base64
import hashlib
import hmac


def sign(auth_token: str, signed: str) -> str:
    """The signature; a WebSocket's handshake has no form, so `signed` is its URL."""
    digest = hmac.new(auth_token.encode(), signed.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode("ascii")
