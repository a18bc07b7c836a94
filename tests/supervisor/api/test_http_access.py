"""Who is let in by HTTP, and how often one may try."""

import asyncio
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from shim.environment import ConfigError
from supervisor.api.access import ApiKey, Credentials, DoorSettings, new_key
from supervisor.api.doorkeeper import FAILURES, Doorkeeper, NotAuthenticated, TooOften
from supervisor.api.rate_limit import Rate
from supervisor.api.server import server_tls
from supervisor.phone.phone_call import CallStatus
from tests.supervisor.rest_rig import (
    ACCOUNT,
    API_TOKEN,
    AUTH_TOKEN,
    CALLS,
    RestRig,
    basic,
    entries,
)

PATIENCE_S = 10.0
BEARER = f"Bearer {API_TOKEN}"
RESTART = "/workers/1/restart"
BURST = int(FAILURES.burst)


def write_keys(path: Path, *keys: ApiKey) -> None:
    """A file of keys, put in place at once."""
    new = path.with_suffix(".new")
    new.write_text("".join(key.line() + "\n" for key in keys))
    new.chmod(0o600)
    new.rename(path)


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        ("Bearer guessed", 401),
        (f"Bearer {AUTH_TOKEN}", 401),
        (basic(ACCOUNT, "guessed"), 401),
        (basic(ACCOUNT, API_TOKEN), 401),
        (basic("", API_TOKEN), 401),
        (basic(), 200),
        (BEARER, 200),
    ],
)
async def test_credentials(authorization: str | None, status: int) -> None:
    """One answer for everything that is wrong: nobody learns what of it was right."""
    async with RestRig() as rig:
        answer = await rig.ask("GET", CALLS, authorization=authorization)
        assert answer.status == status
        if status == 401:
            nothing = await rig.ask("GET", "/no/such/path", authorization=None)
            assert answer.body == nothing.body
            assert answer.json["code"] == 20003
            assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")


async def test_health_and_metrics() -> None:
    """Strangers see the status and the metrics, wrong credentials see nothing."""
    async with RestRig() as rig:
        assert (await rig.ask("GET", "/health", authorization=None)).json == {"status": "ok"}
        assert "workers" in (await rig.ask("GET", "/health", authorization=BEARER)).json
        assert (await rig.ask("GET", "/health", authorization="Bearer guessed")).status == 401
        assert (await rig.ask("GET", "/metrics", authorization=None)).status == 200


async def test_roles(tmp_path: Path) -> None:
    """Each role may do what it says and what is below it; by the names of the keys."""
    made = {role: new_key(f"{role}-key", role) for role in ("read", "operate", "admin")}
    keys_path, audit_path = tmp_path / "keys", tmp_path / "audit.jsonl"
    write_keys(keys_path, *(key for key, _ in made.values()))
    async with RestRig(audit_path, keys_path=str(keys_path)) as rig:
        call = rig.calls.add(CallStatus.IN_PROGRESS)
        path = f"/2010-04-01/Accounts/{ACCOUNT}/Calls/{call.sid}.json"
        seen = {}
        for role, (key, secret) in made.items():
            allowed = basic(key.key_id, secret)
            seen[role] = [
                (await rig.ask("GET", path, authorization=allowed)).status,
                (await rig.ask("DELETE", path, authorization=allowed)).status,
                (await rig.ask("POST", RESTART, authorization=allowed)).status,
            ]
        assert seen == {
            "read": [200, 403, 403],
            "operate": [200, 409, 403],
            "admin": [200, 409, 200],
        }
    told = [(each["actor"], each["action"], each["outcome"]) for each in entries(audit_path)]
    assert told[:3] == [
        ("read-key", "call.fetch", "done"),
        ("read-key", "call.delete", "denied:20403"),
        ("read-key", "worker.restart", "denied:20403"),
    ]
    assert told[-1] == ("admin-key", "worker.restart", "done")
    assert {each["call"] for each in entries(audit_path)} == {call.sid, ""}


async def test_a_changed_file_of_keys(tmp_path: Path) -> None:
    """A key that was taken out is refused soon; a file that can't be used changes nothing."""
    (old, old_secret), (new, new_secret) = new_key("old", "read"), new_key("new", "read")
    keys_path = tmp_path / "keys"
    write_keys(keys_path, old)
    door = Doorkeeper(DoorSettings(Credentials(API_TOKEN), str(keys_path)))

    async def who(authorization: str, address: str = "192.0.2.1") -> str:
        try:
            return (await door.admit(authorization, address)).name
        except NotAuthenticated:
            return ""

    assert await who(basic(old.key_id, old_secret)) == "old"
    write_keys(keys_path, new)
    deadline = time.monotonic() + PATIENCE_S
    while await who(basic(old.key_id, old_secret)):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert await who(basic(new.key_id, new_secret)) == "new"
    keys_path.write_text("no key\n")
    door._looked_s = 0.0
    assert await who(basic(new.key_id, new_secret)) == "new"
    door.close()


@pytest.mark.parametrize(
    ("text", "mode", "what"),
    [
        ("no key\n", 0o600, "line 1: allowed is"),
        ("", 0o666, "others may write"),
        (None, 0, "No such"),
    ],
)
def test_a_bad_file_of_keys(tmp_path: Path, text: str | None, mode: int, what: str) -> None:
    """The start fails in words that name variable, file and fault."""
    path = tmp_path / "keys"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    with pytest.raises(ConfigError) as refused:
        Doorkeeper(DoorSettings(Credentials(API_TOKEN), str(path)))
    assert str(refused.value).startswith(f"API_KEYS_FILE is '{path}': {what}")


async def test_other_tokens_from_now_on() -> None:
    """Renewed, the old token is worth nothing, and the account is the new one."""
    async with RestRig() as rig:
        assert (await rig.ask("GET", CALLS)).status == 200
        other = "AC" + "cd" * 16
        rig.api.renew(Credentials(API_TOKEN, other, AUTH_TOKEN[::-1]))
        assert (await rig.ask("GET", CALLS)).status == 401
        renewed = basic(other, AUTH_TOKEN[::-1])
        assert (await rig.ask("GET", CALLS, authorization=renewed)).status == 404
        path = CALLS.replace(ACCOUNT, other)
        assert (await rig.ask("GET", path, authorization=renewed)).status == 200


async def test_who_guesses_is_slowed_down(tmp_path: Path) -> None:
    """After some wrong tries 429, told once in the log; those who are known go on unhindered."""
    audit_path = tmp_path / "audit.jsonl"
    async with RestRig(audit_path) as rig:
        assert (await rig.ask("GET", CALLS)).status == 200
        tries = [
            await rig.ask("GET", CALLS, authorization=basic(ACCOUNT, str(number)))
            for number in range(BURST + 5)
        ]
        assert [answer.status for answer in tries] == [401] * BURST + [429] * 5
        assert tries[-1].json["code"] == 20429
        assert 1 <= int(tries[-1].headers["Retry-After"]) <= 11
        assert (await rig.ask("GET", CALLS)).status == 200
        late = await rig.ask("GET", CALLS, authorization=BEARER)
        assert late.status == 429, "even the right token has to wait, if it was not known before"
    outcomes = [each["outcome"] for each in entries(audit_path)]
    assert outcomes == ["done", *["denied:20003"] * BURST, "denied:20429", "done"]
    assert {each["actor"] for each in entries(audit_path)} == {"account", "unknown"}
    assert {each["address"] for each in entries(audit_path)} == {"127.0.0.1"}


async def test_addresses_are_told_apart() -> None:
    """Who guesses at one address keeps nobody out at another."""
    door = Doorkeeper(DoorSettings(Credentials(API_TOKEN)))
    for _ in range(BURST):
        with pytest.raises(NotAuthenticated):
            await door.admit("Bearer guessed", "192.0.2.1")
    with pytest.raises(TooOften):
        await door.admit(BEARER, "192.0.2.1")
    assert (await door.admit(BEARER, "192.0.2.2")).name == "api-token"
    door.close()


async def test_too_many_requests() -> None:
    """Each credential has its own bound."""
    async with RestRig(requests=Rate(per_second=0.01, burst=3)) as rig:
        statuses = [(await rig.ask("GET", CALLS)).status for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        assert (await rig.ask("GET", CALLS, authorization=BEARER)).status == 200


async def test_hashes_are_not_computed_in_the_loop(tmp_path: Path) -> None:
    """Keys are checked in the one thread for it, however many come; too many have to come again."""
    key, secret = new_key("bot", "read")
    write_keys(tmp_path / "keys", key)
    door = Doorkeeper(DoorSettings(Credentials(API_TOKEN), str(tmp_path / "keys")))
    threads: set[int] = set()
    check = Credentials.check_key

    def noted(self: Credentials, claim: Any) -> Any:
        threads.add(threading.get_ident())
        return check(self, claim)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Credentials, "check_key", noted)
        tries = (door.admit(basic(key.key_id, secret), f"192.0.2.{n}") for n in range(20))
        results = await asyncio.gather(*tries, return_exceptions=True)
    assert [type(each).__name__ for each in results] == ["Actor"] * 16 + ["TooOften"] * 4
    assert len(threads) == 1
    assert threads.isdisjoint({threading.get_ident()})
    door.close()


async def test_tls(tmp_path: Path) -> None:
    """With a certificate HTTP is HTTPS, and nothing else."""
    authority = trustme.CA()
    pem = tmp_path / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    rig = RestRig()
    port = await rig.api.start("127.0.0.1", 0, server_tls(str(pem), ""))
    async with aiohttp.ClientSession() as session:
        async with session.get(f"https://localhost:{port}/health", ssl=trust) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"http://localhost:{port}/health")
    await rig.api.close()


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    """The start fails in words that name both variables."""
    pem = tmp_path / "server.pem"
    pem.write_text("no certificate")
    for path in (pem, tmp_path / "missing"):
        with pytest.raises(ConfigError, match=r"HTTP_TLS_CERT is .* and HTTP_TLS_KEY"):
            server_tls(str(path), "")
