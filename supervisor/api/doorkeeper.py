"""Lets requests in: checks credentials without stalling the loop, and bounds how often one tries.

Hashes of API keys are computed in one thread. What was right once is remembered, by a keyed digest
of the header, until the keys change; so a bot's requests cost no hash, and somebody who guesses
wrong from the same address doesn't keep it out.
"""

import asyncio
import hashlib
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec
import structlog

from shim.environment import ConfigError
from supervisor.api.access import (
    MIN_TOKEN_CHARACTERS,
    Actor,
    Claim,
    Credentials,
    DoorSettings,
    read_claim,
    read_keys,
)
from supervisor.api.rate_limit import Rate, RateLimit, Refusal, network_of
from supervisor.phone.phone_call import CallRejected
from supervisor.rest.errors import Code

log = structlog.get_logger()

FAILURES: Final = Rate(per_second=0.1, burst=10)
"""Wrong credentials per address: ten at once, then one in ten seconds."""
MAX_WAITING: Final = 16
"""Hashes that may wait for the thread; who comes then has to come again."""
MAX_REMEMBERED: Final = 1000
LOOK_S: Final = 1.0
"""The file of keys is looked at so often, when there are requests."""


class TooOften(CallRejected):
    """Too many requests; `first` is set for the first refusal of a row."""

    def __init__(self, refusal: Refusal, what: str) -> None:
        super().__init__(Code.TOO_MANY_REQUESTS, 429, f"{what}; see Retry-After")
        self.retry_after_s = max(1, int(refusal.retry_after_s + 1))
        self.first = refusal.first


class NotAuthenticated(CallRejected):
    """No credentials, or wrong ones: which of it, and what of them was wrong, is not said."""

    def __init__(self) -> None:
        what = "Authenticate: needed are the account's credentials, an API key, or the API token"
        super().__init__(Code.NOT_AUTHENTICATED, 401, what)


class Doorkeeper:
    """Knows who a request is from. Raises ConfigError if the file of keys can't be used."""

    def __init__(self, settings: DoorSettings) -> None:
        self._settings = settings
        self._credentials = _strong(settings.credentials)
        self._keys_version: tuple[int, ...] = ()
        self._looked_s = time.monotonic()
        self._failures = RateLimit(FAILURES)
        self._requests = RateLimit(settings.requests)
        self._remembered: dict[bytes, Actor] = {}
        self._digest_key = secrets.token_bytes(32)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="key-check")
        self._waiting = 0
        if settings.keys_path:
            self._read_keys()

    def renew(self, credentials: Credentials) -> None:
        """Take other tokens from now on; the API keys stay those of their file."""
        keys = self._credentials.keys
        self._credentials = msgspec.structs.replace(_strong(credentials), keys=keys)
        self._remembered = {}

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def admit(self, authorization: str, address: str) -> Actor:
        """Who sends a request with this Authorization header from this address.

        Raises:
            NotAuthenticated: nobody that we know.
            TooOften: too many wrong credentials from there, or too many requests of this one.
        """
        await self._look_at_keys()
        actor = await self._known(authorization, network_of(address))
        if refusal := self._requests.take(actor.name, time.monotonic()):
            raise TooOften(refusal, "too many requests with these credentials")
        return actor

    async def _known(self, authorization: str, network: str) -> Actor:
        digest = hashlib.blake2b(
            authorization.encode(errors="surrogateescape"), key=self._digest_key
        ).digest()
        if actor := self._remembered.get(digest):
            return actor
        if refusal := self._failures.look(network, time.monotonic()):
            raise TooOften(refusal, "too many requests without valid credentials")
        claim = read_claim(authorization)
        credentials = self._credentials
        found = await self._check(credentials, claim) if claim else None
        if found is None:
            self._failures.take(network, time.monotonic())
            raise NotAuthenticated
        if credentials is self._credentials and len(self._remembered) < MAX_REMEMBERED:
            self._remembered[digest] = found
        return found

    async def _check(self, credentials: Credentials, claim: Claim) -> Actor | None:
        if actor := credentials.check_tokens(claim):
            return actor
        if not claim.user or not credentials.keys:
            return None
        if self._waiting >= MAX_WAITING:
            raise TooOften(Refusal(1, first=False), "too many API keys are being checked")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, credentials.check_key, claim)
        finally:
            self._waiting -= 1

    async def _look_at_keys(self) -> None:
        """Take over a changed file of keys. One that can't be used changes nothing."""
        now_s = time.monotonic()
        if not self._settings.keys_path or now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._read_keys)
        except ConfigError as error:
            log.error("api_keys_not_renewed", reason=str(error))

    def _read_keys(self) -> None:
        """Read the file if it is another than before; runs in the thread, but for the start."""
        path = Path(self._settings.keys_path)
        try:
            status = path.stat()
            version = (status.st_mtime_ns, status.st_size, status.st_ino)
            if version == self._keys_version:
                return
            if status.st_mode & 0o022:
                raise ValueError("others may write it; allowed is mode 0600 or 0644")
            keys = read_keys(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"API_KEYS_FILE is {str(path)!r}: {error.strerror}") from error
        except ValueError as error:
            raise ConfigError(f"API_KEYS_FILE is {str(path)!r}: {error}") from error
        self._keys_version = version
        self._credentials = msgspec.structs.replace(self._credentials, keys=keys)
        self._remembered = {}
        log.info("api_keys_read", keys=len(keys))


def _strong(credentials: Credentials) -> Credentials:
    strong = credentials.without_weak_tokens()
    if strong is not credentials:
        log.warning("auth_token_too_short_for_http", needed_characters=MIN_TOKEN_CHARACTERS)
    return strong
