#!/usr/bin/env python3
"""Give a renewed certificate to Asterisk (or Kamailio) while calls go on: certbot's deploy hook.

    certbot certonly --standalone -d sip.example.org --deploy-hook \\
        "/opt/open-telephony-stack/deploy/certificates/deploy_hook.py --owner asterisk"

Certbot names the directory of the new certificate in RENEWED_LINEAGE. Certificate and key are
copied together into a new directory below `--target`, for the owner only, and the symbolic link
`current` is turned to it in one step, so nobody ever sees the one without the other. Then the
server is told to read them, and asked on its port whether it shows the new one. Asterisk keeps
connections that are up, and with them their calls (measured on 22.10.1).

Only Python's standard library is needed: certbot runs this with the system's Python, as root.
"""

import argparse
import os
import shlex
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

CERT, KEY = "cert.pem", "key.pem"
CURRENT = "current"
DEFAULT_RELOAD = "asterisk -rx 'module reload res_pjsip.so'"
SHOWN_WITHIN_S = 10.0
POLL_S = 0.2


class HookError(Exception):
    """The certificate is not in use; the text says why."""


def install(lineage: Path, target: Path, owner: str | None = None) -> Path:
    """Copy certbot's `fullchain.pem` and `privkey.pem` and make `target/current` mean the copy.

    Returns the copy's directory. Files are 0600 and directories 0700, of `owner` (a user's name or
    number; None: ours). Raises HookError if the two don't belong together; then nothing has
    changed.
    """
    _require_pair(lineage / "fullchain.pem", lineage / "privkey.pem")
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    copy = Path(tempfile.mkdtemp(prefix="renewed-", dir=target))
    for source, name in (("fullchain.pem", CERT), ("privkey.pem", KEY)):
        (copy / name).touch(mode=0o600)
        (copy / name).write_bytes((lineage / source).read_bytes())
    if owner is not None:
        user: int | str = int(owner) if owner.isdigit() else owner
        for path in (target, copy, copy / CERT, copy / KEY):
            shutil.chown(path, user=user)
    link = copy / CURRENT
    link.symlink_to(copy.name)
    link.rename(target / CURRENT)
    return copy


def remove_others(copy: Path) -> None:
    """Delete the keys of earlier certificates, which nobody needs any more."""
    for old in copy.parent.glob("renewed-*"):
        if old != copy:
            shutil.rmtree(old)


def reload(command: str) -> None:
    """Run the command that makes the server read its files again. Raises HookError if it fails."""
    try:
        ended = subprocess.run(shlex.split(command), capture_output=True, text=True)
    except OSError as error:
        raise HookError(f"--reload is {command!r}: {error}") from error
    if ended.returncode != 0:
        printed = " ".join((ended.stdout + ended.stderr).split())
        raise HookError(f"--reload is {command!r}: it ended with {ended.returncode}: {printed}")


def require_shown(address: tuple[str, int], cert: Path, within_s: float = SHOWN_WITHIN_S) -> None:
    """Wait until the server shows the certificate in `cert` to new connections, or HookError."""
    wanted = _first_certificate(cert)
    deadline = time.monotonic() + within_s
    problem = "another certificate"
    while time.monotonic() < deadline:
        try:
            if ssl.get_server_certificate(address, timeout=POLL_S * 10).strip() == wanted:
                return
        except OSError as error:
            problem = str(error)
        time.sleep(POLL_S)
    raise HookError(f"{address[0]}:{address[1]} doesn't show the new certificate, but: {problem}")


def _require_pair(cert: Path, key: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    except OSError as error:  # ssl.SSLError is one
        raise HookError(
            f"{str(cert)!r} and {str(key)!r} are no certificate and its key: {error}"
        ) from error


def _first_certificate(pem: Path) -> str:
    end = "-----END CERTIFICATE-----"
    return pem.read_text().partition(end)[0].strip() + f"\n{end}"


def _address(text: str) -> tuple[str, int] | None:
    host, _, port = text.rpartition(":")
    if text == "no":
        return None
    if not host or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} must be HOST:PORT, or no")
    return host, int(port)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code, which certbot reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--lineage",
        type=Path,
        default=os.environ.get("RENEWED_LINEAGE"),
        help="directory with fullchain.pem and privkey.pem (default: $RENEWED_LINEAGE)",
    )
    parser.add_argument("--target", type=Path, default=Path("/etc/asterisk/keys"))
    parser.add_argument("--owner", help="user who may read them: the one that the server runs as")
    parser.add_argument("--reload", default=DEFAULT_RELOAD, help="default: %(default)s")
    parser.add_argument(
        "--check",
        type=_address,
        default="127.0.0.1:5061",
        metavar="HOST:PORT",
        help="where the new certificate must be seen (default: %(default)s); 'no': nowhere",
    )
    options = parser.parse_args(arguments)
    if options.lineage is None:
        parser.error("no --lineage, and RENEWED_LINEAGE is not set")
    try:
        copy = install(options.lineage, options.target, options.owner)
        reload(options.reload)
        if options.check is not None:
            require_shown(options.check, copy / CERT)
        remove_others(copy)
    except (HookError, OSError, LookupError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
