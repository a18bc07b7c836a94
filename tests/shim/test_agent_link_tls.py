"""Row 31: who a link trusts, and what it shows of itself."""

import ssl
import warnings
from pathlib import Path

import msgspec
import pytest
import trustme

from shim.config import ShimConfig, tls_context
from shim.link_opener import LinkError
from tests.shim.link_owner import SETTINGS, Owner, accept, open_link
from tests.shim.raw_server import RawServer

AUTHORITY = trustme.CA()


def client_tls() -> ssl.SSLContext:
    """The worker's context, which trusts our authority."""
    with AUTHORITY.cert_pem.tempfile() as bundle:
        return tls_context(ShimConfig(stream_ca_file=bundle))


def server_tls(host: str = "localhost", authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    """A server's context with a new certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    return context


async def test_good_certificate() -> None:
    """A trusted certificate for the right host is a stream over TLS 1.2 or newer."""
    async with RawServer(accept, tls=server_tls()) as server:
        owner = Owner()
        await open_link(server.url, owner, tls=client_tls())
        assert len(owner.opened) == 1


@pytest.mark.parametrize(
    ("host", "authority", "why"),
    [
        ("localhost", trustme.CA(), "(?i)unable to get local issuer|self.signed"),
        ("elsewhere.example", AUTHORITY, "(?i)hostname mismatch"),
    ],
    ids=["untrusted", "wrong host"],
)
async def test_bad_certificate(host: str, authority: trustme.CA, why: str) -> None:
    """Row 31: refused, and not a byte of the request is sent."""
    async with RawServer(accept, tls=server_tls(host, authority)) as server:
        owner = Owner()
        with pytest.raises(LinkError, match=why):
            await open_link(server.url, owner, tls=client_tls())
        assert owner.opened == []
        assert all(connection.request == b"" for connection in server.connections)


async def test_old_tls() -> None:
    """Row 31: a server that only has TLS 1.1 is refused."""
    context = server_tls()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with RawServer(accept, tls=context) as server:
        owner = Owner()
        with pytest.raises(LinkError):
            await open_link(server.url, owner, tls=client_tls())
        assert owner.opened == []


async def test_plain_server_behind_wss() -> None:
    """Row 31: a wss URL never falls back to plain text."""
    async with RawServer(accept) as server:
        url = server.url.replace("ws://127.0.0.1", "wss://localhost")
        hasty = msgspec.structs.replace(SETTINGS, handshake_timeout_s=0.3)
        with pytest.raises(LinkError):
            await open_link(url, Owner(), hasty, client_tls())


async def test_client_certificate(tmp_path: Path) -> None:
    """STREAM_CLIENT_CERT is shown to a voice server that asks for it."""
    context = server_tls()
    context.verify_mode = ssl.CERT_REQUIRED
    AUTHORITY.configure_trust(context)
    ours, bundle = tmp_path / "ours.pem", tmp_path / "ca.pem"
    AUTHORITY.issue_cert("shim.example").private_key_and_cert_chain_pem.write_to_path(str(ours))
    AUTHORITY.cert_pem.write_to_path(str(bundle))
    config = ShimConfig(stream_ca_file=str(bundle), stream_client_cert=str(ours))
    async with RawServer(accept, tls=context) as server:
        owner = Owner()
        await open_link(server.url, owner, tls=tls_context(config))
        assert len(owner.opened) == 1
