"""The production configuration on the real Asterisk: who gets in, how, and who doesn't."""

import asyncio
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deploy.plain_caller import PlainCaller
from tests.deploy.rootfs_program import running
from tests.deploy.secure_trunk import CREDENTIALS, Authority, SecureStack, baresip
from tests.deploy.sipp import answer_call, sipp
from tests.deploy.tls_caller import TlsCaller

pytestmark = pytest.mark.asterisk

STRANGER = "127.0.0.9"
"""An address that is not the trunk's."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The CA of all tests here."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def trunk(asterisk_rootfs: Path, authority: Authority) -> Iterator[SecureStack]:
    """A running Asterisk with the production configuration, and no supervisor."""
    with SecureStack(authority, start=("asterisk",)) as stack:
        yield stack


async def test_a_call_with_tls_and_srtp(
    asterisk_rootfs: Path, authority: Authority, tmp_path: Path
) -> None:
    """baresip's call is answered by the voice agent, hears its own words, and outlives a renewal.

    The next connection sees the renewed certificate.
    """
    with SecureStack(authority, start=("asterisk", "agent", "supervisor")) as stack:
        before = shown_certificate(stack, authority)
        with baresip(asterisk_rootfs, tmp_path / "baresip", authority, stack.tls_uri) as phone:
            await stack.until(phone.hears_itself, "the echo comes back", within_s=30)
            assert "SRTP is Enabled (cryptosuite=AES_CM_128_HMAC_SHA1_80)" in phone.log
            authority.renew()
            hook = await asyncio.to_thread(stack.run_hook, authority)
            assert hook.returncode == 0, hook.stderr
            assert shown_certificate(stack, authority) != before
            so_far = len(phone.heard())
            await stack.until(lambda: phone.hears_itself(so_far), "it goes on", within_s=30)
            assert stack.left_in_asterisk()["channels"] == 2
        await stack.until_idle()  # its BYE came over the connection of before the renewal


def test_plain_sip_finds_no_port(trunk: SecureStack) -> None:
    """Neither UDP nor TCP on any port of SIP, and no plain SIP on that of TLS."""
    transports = trunk.cli("pjsip show transports")
    assert "trunk-tls" in transports
    assert "Objects found: 1" in transports
    with PlainCaller(trunk.tls_port) as caller, pytest.raises(OSError, match=r"refused|timed out"):
        caller.invite(seconds=1.0)
    with socket.create_connection(("127.0.0.1", trunk.tls_port)) as plain:
        plain.settimeout(5)
        plain.sendall(b"OPTIONS sip:127.0.0.1 SIP/2.0\r\n\r\n")
        assert b"SIP/2.0" not in plain.recv(1000)  # a TLS alert, or nothing before the end


@pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name
)
def test_new_tls_is_spoken(
    trunk: SecureStack, authority: Authority, version: ssl.TLSVersion
) -> None:
    """1.2, which phone companies speak, and 1.3."""
    context = authority.client_tls()
    context.maximum_version = context.minimum_version = version
    shake_hands(trunk, context)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")  # which is the point
@pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=lambda version: version.name
)
def test_old_tls_is_refused(
    trunk: SecureStack, authority: Authority, version: ssl.TLSVersion
) -> None:
    """A client that can do no better gets an alert (Python prints it so), and no connection."""
    context = authority.client_tls()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with pytest.raises(ssl.SSLError, match="TLSV1_ALERT_PROTOCOL_VERSION"):
        shake_hands(trunk, context)


def test_weak_ciphers_are_refused(trunk: SecureStack, authority: Authority) -> None:
    """Without forward secrecy, or CBC."""
    context = authority.client_tls()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-GCM-SHA256:ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES128-SHA")
    with pytest.raises(ssl.SSLError, match="ALERT_HANDSHAKE_FAILURE"):
        shake_hands(trunk, context)


@pytest.mark.parametrize("user", ["+15550001111", "chime-out", "chime-in", "voice-agent"])
def test_a_stranger_cannot_call(trunk: SecureStack, authority: Authority, user: str) -> None:
    """From an address that isn't the trunk's: 401, whoever they say they are; no channel."""
    with TlsCaller(trunk.tls_port, authority, STRANGER, user) as caller:
        assert caller.invite().startswith("SIP/2.0 401 ")
        assert caller.ask("REGISTER").startswith("SIP/2.0 401 ")
    assert trunk.left_in_asterisk() == {"channels": 0, "bridges": 0}
    assert user.lstrip("+") not in trunk.asterisk.log or not user.startswith("+")


def test_nobody_calls_out_through_us(trunk: SecureStack, authority: Authority) -> None:
    """A number from the trunk leads to the agent's dialplan, never out, however it is written."""
    for user in ("+15551234567", "PJSIP", "chime-out"):
        with TlsCaller(trunk.tls_port, authority, "127.0.0.1") as caller:
            assert caller.invite(number=user).startswith("SIP/2.0 200 ")
            channels = trunk.cli("core show channels concise").splitlines()
            assert [channel.startswith("PJSIP/chime-in-") for channel in channels] == [True]
            caller.ask("BYE")
            trunk.wait_until(lambda: not trunk.left_in_asterisk()["channels"], 10, "it is over")


def test_calls_out(
    trunk: SecureStack, authority: Authority, asterisk_rootfs: Path, tmp_path: Path
) -> None:
    """To a server with a good certificate, with our credentials when it asks, and SRTP."""
    with called(trunk, authority, asterisk_rootfs, tmp_path / "sipp") as server:
        trunk.wait_until(lambda: can_be_called(trunk), 20, "it answers OPTIONS")
        assert trunk.call_out("+15557654321") == 200
        assert server.wait(30) == 0, (tmp_path / "sipp" / "errors.log").read_text()


def test_no_calls_out_to_an_impostor(
    trunk: SecureStack, asterisk_rootfs: Path, tmp_path: Path
) -> None:
    """A server with a certificate of somebody else's never sees the call."""
    impostor = Authority(tmp_path / "impostor")
    with called(trunk, impostor, asterisk_rootfs, tmp_path / "sipp") as server:
        trunk.wait_until(lambda: not can_be_called(trunk), 20, "it counts as unreachable")
        trunk.call_out("+15557654321")
        trunk.wait_until(
            lambda: "The certificate is untrusted" in trunk.asterisk.log, 20, "it is found out"
        )
        trunk.wait_until(lambda: not trunk.left_in_asterisk()["channels"], 20, "it has failed")
        assert server.poll() is None, "it still waits for a call"


def test_plain_rtp_is_refused(trunk: SecureStack, authority: Authority) -> None:
    """An offer without keys of SRTP gets 488."""
    with TlsCaller(trunk.tls_port, authority, "127.0.0.1") as caller:
        assert caller.invite(profile="RTP/AVP", crypto="").startswith("SIP/2.0 488 ")


def test_a_draining_node_refuses(trunk: SecureStack, authority: Authority) -> None:
    """Without its extension of service: 503 to calls, 404 to probes; then it is back."""
    with TlsCaller(trunk.tls_port, authority, "127.0.0.1") as caller:
        assert caller.look("*in-service").startswith("SIP/2.0 200 ")
        trunk.cli("dialplan remove extension *in-service@inbound")
        assert caller.invite().startswith("SIP/2.0 503 ")
        assert caller.look("*in-service").startswith("SIP/2.0 404 ")
        trunk.cli("dialplan reload")
        assert caller.look("*in-service").startswith("SIP/2.0 200 ")
        assert caller.invite().startswith("SIP/2.0 200 ")
        caller.ask("BYE")


@contextmanager
def called(
    stack: SecureStack, authority: Authority, rootfs: Path, directory: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """SIPp where the trunk's calls out go; it takes one that proves who it comes from."""
    authority.copy_to(directory)
    scenario = answer_call(CREDENTIALS["CHIME_OUT_USER"], CREDENTIALS["CHIME_OUT_PASS"])
    place = ["-i", "127.0.0.1", "-p", str(stack.outbound_port)]
    command = sipp(rootfs, directory, scenario, [*place, "-m", "1", "-aa"])
    with running(command, directory / "log") as server:
        stack.wait_until(lambda: is_listening(stack.outbound_port), 10, "SIPp listens")
        yield server


def can_be_called(stack: SecureStack) -> bool:
    """Whether the trunk's server has answered OPTIONS, as known so far; asks again."""
    stack.cli("pjsip qualify chime-out")
    return " Avail " in stack.cli("pjsip show contacts")


def is_listening(port: int) -> bool:
    """Whether somebody does on 127.0.0.1; a connection to try it would confuse SIPp."""
    sockets = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1:4:2] == [f"0100007F:{port:04X}", "0A"] for line in sockets)


def shown_certificate(stack: SecureStack, authority: Authority) -> bytes | None:
    """What a new connection sees; it must be valid for the CA and the host."""
    return shake_hands(stack, authority.client_tls())


def shake_hands(stack: SecureStack, context: ssl.SSLContext) -> bytes | None:
    """Connect; returns the certificate that Asterisk shows."""
    with (
        socket.create_connection(("127.0.0.1", stack.tls_port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        return secure.getpeercert(binary_form=True)
