"""The hook that gives a renewed certificate to a server: both files at once, or none."""

import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_server

import pytest

from deploy.certificates.deploy_hook import HookError, install, require_shown
from tests.asterisk_instance import CHECKOUT
from tests.deploy.secure_trunk import Authority

HOOK = CHECKOUT / "deploy" / "certificates" / "deploy_hook.py"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """With a certificate that is to be installed."""
    return Authority(tmp_path)


@contextmanager
def server(keys: Path) -> Iterator[int]:
    """A TLS server that shows what was current when it started; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys / "current" / "cert.pem", keys / "current" / "key.pem")
    with create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                    with context.wrap_socket(connection, server_side=True):
                        pass
                except OSError:
                    return  # closed, as the block has ended

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(2)
    thread.join()


def run(authority: Authority, target: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the hook as certbot does: a program, the directory in the environment."""
    return subprocess.run(
        [str(HOOK), "--target", str(target), *options],
        env={"PATH": os.environ["PATH"], "RENEWED_LINEAGE": str(authority.lineage)},
        capture_output=True,
        text=True,
    )


def test_what_is_installed(authority: Authority, tmp_path: Path) -> None:
    """The chain and its key, below a link; only the owner can read them."""
    keys = tmp_path / "keys"
    copy = install(authority.lineage, keys)
    assert (keys / "current").resolve() == copy
    for name, source in (("cert.pem", "fullchain.pem"), ("key.pem", "privkey.pem")):
        assert (keys / "current" / name).read_bytes() == (authority.lineage / source).read_bytes()
        assert (keys / "current" / name).stat().st_mode & 0o777 == 0o600
    assert copy.stat().st_mode & 0o777 == 0o700


def test_certificate_and_key_change_at_once(authority: Authority, tmp_path: Path) -> None:
    """Whoever has opened the directory by its link sees the two that belong together."""
    keys = tmp_path / "keys"
    first = install(authority.lineage, keys)
    before = (first / "cert.pem").read_bytes()
    authority.renew()
    second = install(authority.lineage, keys)
    assert (keys / "current").resolve() == second
    assert (first / "cert.pem").read_bytes() == before


def test_a_key_of_another_certificate(authority: Authority, tmp_path: Path) -> None:
    """Nothing is changed, and the error names both files."""
    copy = install(authority.lineage, tmp_path / "keys")
    chain = (authority.lineage / "fullchain.pem").read_bytes()
    authority.renew()
    (authority.lineage / "fullchain.pem").write_bytes(chain)
    with pytest.raises(HookError, match=r"fullchain\.pem.*privkey\.pem"):
        install(authority.lineage, tmp_path / "keys")
    assert (tmp_path / "keys" / "current").resolve() == copy


def test_earlier_keys_are_removed(authority: Authority, tmp_path: Path) -> None:
    """After a renewal only the key in use is left."""
    for _ in range(2):
        ended = run(authority, tmp_path / "keys", "--reload", "true", "--check", "no")
        assert ended.returncode == 0, ended.stderr
    assert len(list((tmp_path / "keys").glob("renewed-*"))) == 1


def test_the_new_certificate_must_be_seen(authority: Authority, tmp_path: Path) -> None:
    """A server that shows it is well; one that still shows the old one is an error."""
    keys = tmp_path / "keys"
    first = install(authority.lineage, keys)
    with server(keys) as port:
        require_shown(("127.0.0.1", port), first / "cert.pem")
        authority.renew()
        renewed = install(authority.lineage, keys)
        with pytest.raises(HookError, match=f"127.0.0.1:{port} doesn't show.*another certificate"):
            require_shown(("127.0.0.1", port), renewed / "cert.pem", within_s=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--reload", "false"), "--reload is 'false': it ended with 1"),
        (("--reload", "/no/such/program"), "--reload is '/no/such/program': "),
        (("--owner", "no-such-user"), "no-such-user"),
        (("--check", "nonsense"), "'nonsense' must be HOST:PORT"),
        (("--lineage", "/no/such/directory"), "are no certificate and its key"),
    ],
)
def test_errors_are_one_sentence(
    authority: Authority, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    """Certbot shows it; the exit code says that it failed."""
    ended = run(authority, tmp_path / "keys", *options)
    assert ended.returncode != 0
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_it_needs_nothing_but_python(authority: Authority, tmp_path: Path) -> None:
    """Certbot runs it with the system's Python, which has none of our packages."""
    ended = subprocess.run(
        [sys.executable, "-I", "-S", str(HOOK), "--help"], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
