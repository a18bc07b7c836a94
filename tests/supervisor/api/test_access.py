"""Credentials, keys and roles."""

import pytest

from supervisor.api.access import (
    NOBODY,
    Actor,
    Claim,
    Credentials,
    Hash,
    Role,
    new_key,
    read_claim,
    read_keys,
)
from tests.supervisor.rest_rig import ACCOUNT, API_TOKEN, AUTH_TOKEN, CREDENTIALS, basic


def test_a_key_from_line_to_check() -> None:
    """The file's line is enough to know the secret when it comes."""
    key, secret = new_key("dashboard", "read")
    assert secret not in key.line()
    keys = read_keys(f"# who watches\n\n{key.line()}\n")
    assert keys == {key.key_id: key}
    credentials = Credentials(API_TOKEN, keys=keys)
    assert credentials.check_key(Claim(key.key_id, secret)) == Actor("dashboard", Role.READ)
    assert credentials.check_key(Claim(key.key_id, secret + "x")) is None
    assert credentials.check_key(Claim("SK" + "0" * 32, secret)) is None


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("only three words", "allowed is NAME KEY_ID ROLE HASH"),
        ("me SK12 read x", "allowed is NAME KEY_ID ROLE HASH"),
        (f"me SK{'0' * 32} root {NOBODY.line()}", "'root'; allowed is read or operate or admin"),
        (f"m/e SK{'0' * 32} read {NOBODY.line()}", "the name 'm/e'"),
        (f"me SK{'0' * 32} read scrypt:14:8:1:AAAA", "its hash is not"),
        (f"me SK{'0' * 32} read {NOBODY.line().replace(':14:', ':30:')}", "LOG2_N from 10 to 15"),
        (f"me SK{'0' * 32} read scrypt:14:8:1:AAAA:AAAA", "its hash is not"),
    ],
)
def test_a_bad_line(line: str, what: str) -> None:
    """Its number and its fault are named."""
    with pytest.raises(ValueError, match="line 2: ") as refused:
        read_keys(f"\n{line}\n")
    assert what in str(refused.value)


def test_a_key_twice() -> None:
    """One of them would be taken for the other."""
    line = f"me SK{'0' * 32} read {NOBODY.line()}\n"
    with pytest.raises(ValueError, match=r"line 2: .* twice"):
        read_keys(line * 2)


@pytest.mark.parametrize(
    ("authorization", "claim"),
    [
        (basic("u", "p:q"), Claim("u", "p:q")),
        ("basic dTpw", Claim("u", "p")),
        ("Bearer  abc ", Claim("", "abc")),
        (basic("", API_TOKEN), None),
        ("Basic dTp", None),
        ("Basic ////", None),
        ("Basic \u0660", None),
        ("Bearer \udcff\udcfe", None),
        ("Digest x", None),
        ("Bearer", None),
        ("", None),
        ("Bearer " + "a" * 300, None),
    ],
)
def test_claims(authorization: str, claim: Claim | None) -> None:
    """What is in a header, if anything is."""
    assert read_claim(authorization) == claim


@pytest.mark.parametrize(
    ("claim", "actor"),
    [
        (Claim("", API_TOKEN), Actor("api-token", Role.ADMIN)),
        (Claim(ACCOUNT, AUTH_TOKEN), Actor("account", Role.OPERATE)),
        (Claim("", AUTH_TOKEN), None),
        (Claim(ACCOUNT, API_TOKEN), None),
        (Claim(ACCOUNT, ""), None),
        (Claim("", ""), None),
        (Claim("", "é"), None),
    ],
)
def test_tokens(claim: Claim, actor: Actor | None) -> None:
    """Each token opens with its own scheme only."""
    assert CREDENTIALS.check_tokens(claim) == actor


def test_no_token_is_no_way_in() -> None:
    """What isn't set can't be given either; nor is a short one taken."""
    nothing = Credentials("", ACCOUNT, "")
    assert nothing.check_tokens(Claim("", "")) is None
    assert nothing.check_tokens(Claim(ACCOUNT, "")) is None
    weak = Credentials(API_TOKEN, ACCOUNT, "sesame").without_weak_tokens()
    assert weak.check_tokens(Claim(ACCOUNT, "sesame")) is None
    assert CREDENTIALS.without_weak_tokens() is CREDENTIALS


def test_the_hash_of_nobody() -> None:
    """It costs what a key's hash costs: that there is no such key doesn't show."""
    usual = Hash.of("secret")
    assert (usual.log2_n, usual.r, usual.p) == (NOBODY.log2_n, NOBODY.r, NOBODY.p)
    assert not NOBODY.matches("")
