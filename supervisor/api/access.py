"""Who may use the HTTP interface, and for what: roles, credentials, API keys. Pure.

A key's secret is 256 random bits; the file of keys has only a salted scrypt hash of it. A line is
`NAME KEY_ID ROLE scrypt:LOG2_N:R:P:SALT:HASH`, with salt and hash in base64; empty lines and those
that begin with # don't count.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from enum import IntEnum
from typing import Final, Self

import msgspec
from msgspec import Struct

from supervisor.api.rate_limit import Rate

NAME: Final = re.compile(r"[A-Za-z0-9._@-]{1,64}")
KEY_ID: Final = re.compile(r"SK[0-9a-f]{32}")
SALT_BYTES: Final = 16
HASH_BYTES: Final = 32
MAX_SECRET_CHARACTERS: Final = 256
MIN_TOKEN_CHARACTERS: Final = 16
"""A shorter TWILIO_AUTH_TOKEN signs handshakes, but lets nobody in."""


class Role(IntEnum):
    """What one may do; each includes those before it."""

    READ = 1
    OPERATE = 2
    ADMIN = 3


class Actor(Struct, frozen=True):
    """Somebody whose credentials were right, by the name that the audit log shows."""

    name: str
    role: Role


class Hash(Struct, frozen=True):
    """A salted scrypt hash (RFC 7914) with its cost; the default takes 16 MiB and some 50 ms."""

    salt: bytes
    digest: bytes
    log2_n: int = 14
    r: int = 8
    p: int = 1

    @classmethod
    def of(cls, secret: str) -> Self:
        """Hash a secret with a new salt."""
        salt = secrets.token_bytes(SALT_BYTES)
        return cls(salt, cls(salt, b"").derive(secret))

    def derive(self, secret: str) -> bytes:
        """The digest that a secret has with this salt and cost. Slow, on purpose."""
        return hashlib.scrypt(
            secret.encode(), salt=self.salt, n=1 << self.log2_n, r=self.r, p=self.p, dklen=32
        )

    def matches(self, secret: str) -> bool:
        """Whether it is the hash of this secret. Slow, on purpose."""
        return hmac.compare_digest(self.derive(secret), self.digest)

    def line(self) -> str:
        """As the file has it."""
        salt, digest = (base64.b64encode(part).decode() for part in (self.salt, self.digest))
        return f"scrypt:{self.log2_n}:{self.r}:{self.p}:{salt}:{digest}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The opposite of `line`; raises ValueError. Costs are bounded: 32 MiB, a second."""
        try:
            kind, log2_n, r, p, salt, digest = text.split(":")
            numbers = [int(each) for each in (log2_n, r, p)]
            parts = [base64.b64decode(each, validate=True) for each in (salt, digest)]
        except (ValueError, binascii.Error) as error:
            raise ValueError("its hash is not scrypt:LOG2_N:R:P:SALT:HASH") from error
        usual = kind == "scrypt" and numbers[0] in range(10, 16) and numbers[1:] == [8, 1]
        if not usual or len(parts[0]) < SALT_BYTES or len(parts[1]) != HASH_BYTES:
            raise ValueError("its hash is not scrypt with LOG2_N from 10 to 15, R 8 and P 1")
        return cls(parts[0], parts[1], *numbers)


class ApiKey(Struct, frozen=True):
    """A line of the file of keys."""

    key_id: str
    actor: Actor
    hash: Hash

    def line(self) -> str:
        """As the file has it."""
        return f"{self.actor.name} {self.key_id} {self.actor.role.name.lower()} {self.hash.line()}"


NOBODY: Final = Hash.parse(f"scrypt:14:8:1:{'A' * 22}==:{'A' * 43}=")
"""What a secret is compared with when there is no such key: that takes as long."""


def new_key(name: str, role: str) -> tuple[ApiKey, str]:
    """A new key, and its secret; raises ValueError."""
    secret = secrets.token_urlsafe(32)
    actor = Actor(_name(name), _role(role))
    return ApiKey("SK" + secrets.token_hex(16), actor, Hash.of(secret)), secret


def read_keys(text: str) -> dict[str, ApiKey]:
    """The keys of a file by their id; raises ValueError that names the line."""
    keys: dict[str, ApiKey] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            key = _key(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
        if key.key_id in keys:
            raise ValueError(f"line {number}: the key {key.key_id} is there twice")
        keys[key.key_id] = key
    return keys


def _key(line: str) -> ApiKey:
    match line.split():
        case [name, key_id, role, hashed] if KEY_ID.fullmatch(key_id):
            return ApiKey(key_id, Actor(_name(name), _role(role)), Hash.parse(hashed))
        case _:
            raise ValueError("allowed is NAME KEY_ID ROLE HASH, as the command `key` prints it")


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError(f"the name {text!r}; allowed are 1 to 64 of A-Z, a-z, 0-9, . _ @ -")
    return text


def _role(text: str) -> Role:
    try:
        return Role[text.upper()]
    except KeyError:
        allowed = " or ".join(role.name.lower() for role in Role)
        raise ValueError(f"the role {text!r}; allowed is {allowed}") from None


class Claim(Struct, frozen=True):
    """Who a request says it is from: user and secret, or a bearer token with no user."""

    user: str
    secret: str


def read_claim(authorization: str) -> Claim | None:
    """The claim in an Authorization header (RFC 7617, RFC 6750); None if there is none to read."""
    if not authorization.isascii():  # a header's odd bytes are surrogates, which are no UTF-8
        return None
    scheme, _, rest = authorization.strip().partition(" ")
    rest = rest.strip()
    if scheme.lower() == "bearer" and rest:
        return _bounded(Claim("", rest))
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, secret = base64.b64decode(rest, validate=True).decode().partition(":")
    except (ValueError, binascii.Error):
        return None
    return _bounded(Claim(user, secret)) if colon and user else None


def _bounded(claim: Claim) -> Claim | None:
    return claim if len(claim.user) + len(claim.secret) <= MAX_SECRET_CHARACTERS else None


class Credentials(Struct, frozen=True):
    """All that is accepted. An empty token accepts nobody.

    The account's own credentials may do all with calls; the API token may do everything.
    """

    api_token: str
    account_sid: str = ""
    auth_token: str = ""
    keys: dict[str, ApiKey] = {}

    def without_weak_tokens(self) -> Self:
        """Itself, or without an account's token that could be guessed."""
        if not 0 < len(self.auth_token) < MIN_TOKEN_CHARACTERS:
            return self
        return msgspec.structs.replace(self, auth_token="")

    def check_tokens(self, claim: Claim) -> Actor | None:
        """Who it is, if the claim is one of the tokens. Takes as long for right and wrong ones."""
        bearer = _same(claim.secret, self.api_token) & (claim.user == "")
        account = _same(claim.user, self.account_sid) & _same(claim.secret, self.auth_token)
        if bearer:
            return Actor("api-token", Role.ADMIN)
        return Actor("account", Role.OPERATE) if account else None

    def check_key(self, claim: Claim) -> Actor | None:
        """Who it is, if the claim is an API key. Slow; as slow if there is no such key."""
        key = self.keys.get(claim.user)
        right = (key.hash if key else NOBODY).matches(claim.secret)
        return key.actor if key and right else None


def _same(given: str, expected: str) -> bool:
    same = hmac.compare_digest(given.encode(), expected.encode())
    return same and bool(expected)


class DoorSettings(Struct, frozen=True):
    """Who is let in, and how often. `keys_path` empty: there are no API keys."""

    credentials: Credentials
    keys_path: str = ""
    requests: Rate = Rate(per_second=50, burst=100)
