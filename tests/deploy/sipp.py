"""SIPp as a caller, and as one who is called, over TLS: it has SRTP's keys, and sends no sound."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.deploy.rootfs_program import in_rootfs

HEADERS = """Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:+15550001111@[local_ip]>;tag=[call_number]
Call-ID: [call_id]
Max-Forwards: 70
Contact: <sip:+15550001111@[local_ip]:[local_port];transport=[transport]>"""

SDP = f"""v=0
o=- 1 1 IN IP4 [local_ip]
s=-
c=IN IP4 [local_ip]
t=0 0
m=audio 9 RTP/SAVP 0
a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{"A" * 40}
"""

INVITE = f"""INVITE sip:+15551234567@[remote_ip]:[remote_port];transport=[transport] SIP/2.0
{HEADERS}
To: <sip:+15551234567@[remote_ip]>
CSeq: 1 INVITE
Content-Type: application/sdp
Content-Length: [len]

{SDP}"""
ACK = f"""ACK [next_url] SIP/2.0
{HEADERS}
[routes]
To: [$remote]
CSeq: 1 ACK
Content-Length: 0
"""
BYE = f"""BYE [next_url] SIP/2.0
{HEADERS}
[routes]
To: [$remote]
CSeq: 2 BYE
Content-Length: 0
"""
OK = """SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0
"""


def _send(message: str, options: str = "") -> str:
    return f"<send {options}><![CDATA[\n{message}\n]]></send>"


ANSWERED = (
    _send(INVITE, 'retrans="500"')
    + '<recv response="100" optional="true"/><recv response="180" optional="true"/>'
    + '<recv response="200" rrs="true"><action>'
    + '<ereg regexp=".*" search_in="hdr" header="To:" assign_to="remote"/></action></recv>'
    + _send(ACK)
)
SHORT_CALL = ANSWERED + '<pause milliseconds="300"/>' + _send(BYE) + '<recv response="200"/>'
"""The caller hangs up."""

LONG_CALL = ANSWERED + '<recv request="BYE"/>' + _send(OK)
"""The other side does."""


def _answer(status: str, headers: str = "", body: str = "") -> str:
    copied = (
        "[last_Via:]\n[last_From:]\n[last_To:];tag=[call_number]\n[last_Call-ID:]\n[last_CSeq:]"
    )
    return _send(f"SIP/2.0 {status}\n{copied}\n{headers}Content-Length: [len]\n\n{body}")


CONTACT = "Contact: <sip:[local_ip]:[local_port];transport=[transport]>\n"
CHALLENGE = 'WWW-Authenticate: Digest realm="tests", nonce="once", algorithm=MD5, qop="auth"\n'


def answer_call(user: str, password: str) -> str:
    """Take a call whose caller proves to be `user`; the other side hangs up."""
    proof = f'<verifyauth assign_to="proven" username="{user}" password="{password}"/>'
    return (
        '<recv request="INVITE"/>'
        + _answer("401 Unauthorized", CHALLENGE)
        + '<recv request="ACK"/>'
        + f'<recv request="INVITE"><action>{proof}</action></recv>'
        + '<nop next="take" test="proven"/>'
        + '<nop><action><error message="The caller proves nothing"/></action></nop>'
        + '<label id="take"/>'
        + _answer("200 OK", CONTACT + "Content-Type: application/sdp\n", SDP)
        + '<recv request="ACK"/><recv request="BYE"/>'
        + _send(OK)
    )


def sipp(rootfs: Path, directory: Path, scenario: str, arguments: Sequence[str]) -> list[str]:
    """The command line; its exit code is 0 if all calls went as the scenario says.

    `directory` needs a client's certificate as `cert.pem` and `key.pem`; logs of errors go there.
    """
    text = f'<?xml version="1.0" encoding="us-ascii"?>\n<scenario name="call">{scenario}</scenario>'
    (directory / "call.xml").write_text(text)
    tls = ["-t", "l1", "-tls_cert", "/mnt/cert.pem", "-tls_key", "/mnt/key.pem"]
    logs = ["-trace_err", "-error_file", "/mnt/errors.log", "-timeout", "60s", "-timeout_error"]
    command = ["sipp", "-sf", "/mnt/call.xml", "-nostdin", *tls, *logs, *arguments]
    return in_rootfs(rootfs, directory, command)


def outcome(ended: subprocess.CompletedProcess[bytes], directory: Path) -> str:
    """What to show when SIPp was not content; empty when it was."""
    if ended.returncode == 0:
        return ""
    errors = directory / "errors.log"
    told = errors.read_text(errors="replace")[:3000] if errors.exists() else ""
    return f"exit code {ended.returncode}\n{told}\n{ended.stdout.decode(errors='replace')[-2000:]}"
