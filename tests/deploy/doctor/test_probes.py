"""What is seen of real sockets, file systems, and TLS servers."""

import asyncio
import datetime
import os
import socket
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from websockets.asyncio.server import ServerConnection

from deploy.doctor import machine_probes, port_probe
from deploy.doctor.peer_probes import look_at_sip, look_at_voice_server
from deploy.doctor.tls_probe import look_at_tls, look_up
from shim.link_opener import LinkSettings
from tests.shim.raw_server import RawConnection, RawServer
from voice_agent.config import Config
from voice_agent.server import VoiceServer

AUTHORITY = trustme.CA()
TOKEN = "a-token-of-tests"
LINK = LinkSettings(
    handshake_timeout_s=5, max_message_bytes=1 << 20, auth_token=TOKEN, bearer_token=""
)


def client() -> ssl.SSLContext:
    """Trusts our authority."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


def server(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """Shows this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@asynccontextmanager
async def listening(tls: ssl.SSLContext) -> AsyncIterator[int]:
    """A TLS server that says nothing; its port."""

    async def wait_for_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.transport.abort()

    async with await asyncio.start_server(wait_for_end, "127.0.0.1", 0, ssl=tls) as listener:
        yield listener.sockets[0].getsockname()[1]


def test_taken_ports() -> None:
    """A bound UDP port shows at its own address and not at another; one bound at :: at all."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        table = Path("/proc/net/udp").read_text()
        assert port in port_probe.bound_ports(table, "127.0.0.1")
        assert port not in port_probe.bound_ports(table, "127.0.0.2")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("::", 0))
        port = sock.getsockname()[1]
        table = Path("/proc/net/udp6").read_text()
        assert port in port_probe.bound_ports(table, "127.0.0.1")


def test_port_ranges() -> None:
    """As the kernel writes them."""
    assert port_probe.port_ranges("8080,20000-29999\n") == ((8080, 8080), (20000, 29999))
    assert port_probe.port_ranges("\n") == ()


def test_taken_http_port() -> None:
    """A port that somebody listens at can't be ours."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        facts = port_probe.look_at_ports("127.0.0.1", ("127.0.0.1", port), 0)
    assert "can't be bound" in facts.http_problem
    facts = port_probe.look_at_ports("127.0.0.1", ("127.0.0.1", port), 0)
    assert facts.http_problem == ""


def test_this_machine() -> None:
    """Each probe can read what this kernel shows."""
    assert machine_probes.look_at_clock().max_error_ms >= 0
    assert machine_probes.look_at_limits().fds > 0
    assert machine_probes.look_at_cpus().usable == len(os.sched_getaffinity(0))
    assert machine_probes.look_at_memory().available_bytes > 0
    missing = machine_probes.look_at_volume("RUN_DIR", Path("/dev/shm/is-made-later/run"))
    assert missing.in_memory
    assert 0 < missing.free_share <= 1


async def test_names() -> None:
    """One that there is, and one that there can't be (RFC 6761)."""
    assert "127.0.0.1" in (await look_up("localhost")).addresses
    nowhere = await look_up("voice.invalid")
    assert nowhere.addresses == ()
    assert nowhere.problem


async def test_good_certificate() -> None:
    """Version, issuer and end are seen; old versions of TLS are refused."""
    async with listening(server(AUTHORITY.issue_cert("localhost"))) as port:
        seen = (await look_at_sip("localhost", port, client())).tls
    assert seen.problem == ""
    assert seen.version == "TLSv1.3"
    assert "trustme" in seen.issuer
    assert seen.expires_s > 0
    assert seen.accepts_old is False


async def test_old_tls_is_seen() -> None:
    """A server that speaks TLS 1.1 besides newer ones."""
    context = server(AUTHORITY.issue_cert("localhost"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
    async with listening(context) as port:
        seen = (await look_at_sip("localhost", port, client())).tls
    assert seen.accepts_old is True


@pytest.mark.parametrize(
    ("certificate", "why"),
    [
        (trustme.CA().issue_cert("localhost"), "issuer"),
        (AUTHORITY.issue_cert("elsewhere.example"), "mismatch"),
        (
            AUTHORITY.issue_cert(
                "localhost",
                not_before=datetime.datetime(2020, 1, 1),
                not_after=datetime.datetime(2021, 1, 1),
            ),
            "expired",
        ),
    ],
    ids=["untrusted", "wrong host", "expired"],
)
async def test_bad_certificate(certificate: trustme.LeafCert, why: str) -> None:
    """Said in OpenSSL's words."""
    async with listening(server(certificate)) as port:
        seen = await look_at_tls("localhost", port, client())
    assert why in seen.problem


async def accept(connection: RawConnection) -> None:
    """A voice server that takes everybody."""
    await connection.accept()
    await connection.read_frames()


async def test_voice_server_that_takes_everybody() -> None:
    """Over TLS, with a handshake; that it asked for no signature shows."""
    tls = server(AUTHORITY.issue_cert("localhost"))
    async with RawServer(accept, tls=tls) as voice_server:
        seen = await look_at_voice_server("ECS_MEDIA_WSS_URL", voice_server.url, LINK, client())
    assert seen.problem == ""
    assert seen.tls is not None
    assert seen.tls.version == "TLSv1.3"
    assert seen.accepts_unsigned is True


async def test_voice_server_that_checks_signatures() -> None:
    """Ours is taken, a stream without one isn't."""

    async def hear(websocket: ServerConnection) -> None:
        await websocket.wait_closed()

    async with VoiceServer(Config(voice_agent_port=0, twilio_auth_token=TOKEN), hear) as own:
        url = f"ws://127.0.0.1:{own.port}/media-stream"
        seen = await look_at_voice_server("ECS_MEDIA_WSS_URL", url, LINK, client())
    assert seen.problem == ""
    assert seen.accepts_unsigned is False


async def test_voice_server_that_is_dead() -> None:
    """Nobody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    url = f"ws://127.0.0.1:{port}/x"
    seen = await look_at_voice_server("ECS_MEDIA_WSS_URL", url, LINK, client())
    assert "Connect call failed" in seen.problem
