"""The whole stack behind a trunk as in production, a test CA, and a real SIP client: baresip."""

import shutil
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import trustme

from deploy.certificates.deploy_hook import install
from loadtest.audio import Pcm, decode, silence, tone, write_wav
from loadtest.recording import tones_hz
from loadtest.stack import free_port
from tests.asterisk_instance import CHECKOUT
from tests.deploy.rootfs_program import in_rootfs, running
from tests.supervisor.stack import RunningStack

KEYS = "/etc/asterisk/keys"
CREDENTIALS = {"CHIME_OUT_USER": "voice-agent", "CHIME_OUT_PASS": "unguessable"}
NAME = "sip.example.org"
SAID_HZ = 700.0
WAV_HEADER_BYTES = 44

BARESIP = """
module_path /usr/lib/baresip/modules
sip_listen 127.0.0.1:0
sip_cafile /mnt/ca.pem
sip_verify_server yes
audio_source aufile,/mnt/said.wav
audio_player aufile,/mnt/heard.wav
audio_srate 8000-8000
audio_channels 1
module g711.so
module aufile.so
module srtp.so
module_tmp account.so
module_app menu.so
"""
ACCOUNT = (
    "<sip:+15550001111@127.0.0.1;transport=tls>"
    ";regint=0;mediaenc=srtp-mand;audio_codecs=pcmu;answermode=auto\n"
)


class Authority:
    """A CA for tests, and the certificate that certbot has got from it last."""

    def __init__(self, directory: Path) -> None:
        self.ca = trustme.CA()
        self.lineage = directory / "lineage"
        self.lineage.mkdir(parents=True)
        self.renew()

    def renew(self, *names: str) -> None:
        """Issue another certificate and key, under certbot's names, for these hosts."""
        issued = self.ca.issue_cert(*(names or (NAME, "127.0.0.1")))
        chain = b"".join(part.bytes() for part in issued.cert_chain_pems)
        (self.lineage / "fullchain.pem").write_bytes(chain)
        issued.private_key_pem.write_to_path(str(self.lineage / "privkey.pem"))

    def copy_to(self, directory: Path) -> None:
        """Put the CA, the certificate and its key into a directory of a program's."""
        directory.mkdir(exist_ok=True)
        shutil.copy(self.lineage / "fullchain.pem", directory / "cert.pem")
        shutil.copy(self.lineage / "privkey.pem", directory / "key.pem")
        self.ca.cert_pem.write_to_path(str(directory / "ca.pem"))

    def client_tls(self) -> ssl.SSLContext:
        """TLS of a client that trusts this CA only."""
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context


class SecureStack(RunningStack):
    """A stack whose real Asterisk has the production configuration, on loopback and free ports."""

    def __init__(self, authority: Authority, *, start: tuple[str, ...]) -> None:
        self.tls_port = free_port(socket.SOCK_STREAM)
        self.outbound_port = free_port(socket.SOCK_STREAM)
        settings = {
            "SIP_CERT_FILE": f"{KEYS}/current/cert.pem",
            "SIP_KEY_FILE": f"{KEYS}/current/key.pem",
            "SIP_CA_FILE": f"{KEYS}/ca.pem",
            "SIP_TLS_HOST": "127.0.0.1",
            "SIP_TLS_PORT": str(self.tls_port),
            "CHIME_IN_ADDRESSES": "127.0.0.1, 192.0.2.0/24",
            "CHIME_OUT_HOST": "127.0.0.1",
            "CHIME_OUT_PORT": str(self.outbound_port),
            "AGENT_WAIT_SECONDS": "0",
            **CREDENTIALS,
        }
        super().__init__(real=True, settings=settings, start=start)
        keys = self.path / "asterisk" / "etc" / "keys"
        install(authority.lineage, keys)
        authority.ca.cert_pem.write_to_path(str(keys / "ca.pem"))

    @property
    def tls_uri(self) -> str:
        """Where to call."""
        return f"sip:+15551234567@127.0.0.1:{self.tls_port};transport=tls"

    def call_out(self, number: str) -> int:
        """Let Asterisk call a number by the trunk; who answers hears the dialplan's fallback.

        Returns ARI's status: 200, or 500 if Asterisk can't even try.
        """
        settings = self.environment
        question = urllib.parse.urlencode(
            {
                "endpoint": f"PJSIP/{number}@chime-out",
                "context": "after-agent",
                "extension": "fallback",
                "api_key": f"{settings['ARI_USER']}:{settings['ARI_PASS']}",
            }
        )
        url = f"{settings['ARI_BASE']}/ari/channels?{question}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="POST")) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def run_hook(self, authority: Authority) -> subprocess.CompletedProcess[str]:
        """What certbot runs after a renewal, on this Asterisk's own /etc/asterisk."""
        root = Path(f"/proc/{self.asterisk.pid}/root")
        owner = (root / "etc/asterisk/keys").stat().st_uid
        asterisk = f"{sys.executable} -m deploy.run_asterisk --instance {self.path / 'asterisk'}"
        hook = [sys.executable, "deploy/certificates/deploy_hook.py", "--owner", str(owner)]
        return subprocess.run(
            [
                *hook,
                *("--target", str(root / "etc/asterisk/keys")),
                *("--reload", f"{asterisk} --cli 'module reload res_pjsip.so'"),
                *("--check", f"127.0.0.1:{self.tls_port}"),
            ],
            cwd=CHECKOUT,
            env={
                "RENEWED_LINEAGE": str(authority.lineage),
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            },
            capture_output=True,
            text=True,
        )


class Baresip:
    """baresip in the middle of a call; what it says is `SAID_HZ`, a second in every four."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return (self.directory / "log").read_text(errors="replace")

    def heard(self) -> Pcm:
        """What it has heard so far."""
        file = self.directory / "heard.wav"
        sound = file.read_bytes()[WAV_HEADER_BYTES:] if file.exists() else b""
        return np.frombuffer(sound[: len(sound) // 2 * 2], dtype=np.int16)

    def hears_itself(self, after_samples: int = 0) -> bool:
        """Whether its own tone has come back after so much of what was heard."""
        return any(abs(heard - SAID_HZ) < 15 for heard in tones_hz(self.heard()[after_samples:]))


@contextmanager
def baresip(rootfs: Path, directory: Path, authority: Authority, uri: str) -> Iterator[Baresip]:
    """Let baresip call `uri` with TLS and SRTP, both demanded; leaving hangs up."""
    directory.mkdir()
    authority.ca.cert_pem.write_to_path(str(directory / "ca.pem"))
    write_wav(directory / "said.wav", decode((silence(3) + tone(SAID_HZ, 1)) * 15))
    for name, text in (("config", BARESIP), ("accounts", ACCOUNT), ("contacts", "")):
        (directory / name).write_text(text)
    command = ["baresip", "-f", "/mnt", "-v", "-e", f"/dial {uri}"]
    with running(in_rootfs(rootfs, directory, command), directory / "log"):
        yield Baresip(directory)
