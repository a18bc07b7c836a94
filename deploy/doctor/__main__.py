"""`ots-doctor` (`python -m deploy.doctor`): what is wrong with this machine, why, and the mend.

Settings are read as the programs read them: from the environment and .env in this directory. Run
it as the user, and with the limits, that the programs have. Nothing is changed; voice servers get
a handshake and nothing after it.

Exit codes: 0 nothing found, 1 warnings only, 2 errors.
"""

import argparse
import asyncio
import hashlib
import hmac
import os
import platform
import ssl
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from deploy.doctor import examination
from deploy.doctor.access_rules import is_loopback
from deploy.doctor.evidence import Access, Origin, report
from deploy.doctor.examination import CHECKS, ClockProbe, Orders
from deploy.doctor.finding import as_json, as_text, exit_code
from deploy.doctor.machine_probes import look_at_clock
from deploy.doctor.seen import Seen
from deploy.doctor.settings import Settings, read_settings
from shim.environment import is_secret

PACKAGES: Final = ("open-telephony-stack", "aiohttp", "msgspec", "picows", "uvloop", "websockets")
SIP_TLS_PORT: Final = 5061
MACHINE_ID: Final = Path("/etc/machine-id")
RETENTION: Final = ("record", "retention", "audit", "share_numbers")
"""Parts of the names of settings that say what is kept or passed on."""


def main(arguments: Sequence[str] | None = None, clock: ClockProbe = look_at_clock) -> int:
    """The command line; the exit code is returned. `clock` looks at the kernel's clock."""
    options = _parser().parse_args(arguments)
    orders = Orders(
        wanted=frozenset(CHECKS) - set(options.skip),
        sip=options.sip,
        sip_ca_file=options.sip_ca,
        logs=tuple(options.logs),
        look_at_clock=clock,
    )
    settings = read_settings(os.environ, Path.cwd())
    try:
        seen = asyncio.run(examination.look(settings, orders))
        findings = examination.judge(settings, seen, orders)
        if options.evidence:
            text = report(_origin(seen), _access(settings), seen, findings)
            options.evidence.touch(mode=0o600)
            options.evidence.write_text(text, encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"ots-doctor: {error}\n")
        return 2
    sys.stdout.write(as_json(findings) if options.json else as_text(findings))
    return exit_code(findings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ots-doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="findings as JSON")
    parser.add_argument(
        "--skip", type=_checks, default=(), metavar="CHECK,…", help=f"of {', '.join(CHECKS)}"
    )
    parser.add_argument(
        "--sip",
        type=_address,
        metavar="HOST[:PORT]",
        help="also SIP's TLS side, as trunks see it",
    )
    parser.add_argument("--sip-ca", default="", metavar="FILE", help="CA for it (or the system's)")
    parser.add_argument(
        "--logs", type=Path, nargs="+", default=(), metavar="FILE", help="search for callers' data"
    )
    parser.add_argument(
        "--evidence", type=Path, metavar="FILE", help="write a HIPAA evidence report (Markdown)"
    )
    return parser


def _address(text: str) -> tuple[str, int]:
    try:
        url = urlsplit(f"//{text}")
        host, port = url.hostname, url.port or SIP_TLS_PORT
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error
    if not host:
        raise argparse.ArgumentTypeError(f"{text!r}: allowed is HOST or HOST:PORT")
    return host, port


def _checks(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(CHECKS):
        raise argparse.ArgumentTypeError(
            f"{', '.join(sorted(unknown))}: allowed is any of {', '.join(CHECKS)}"
        )
    return names


def _origin(seen: Seen) -> Origin:
    versions = {name: _version(name) for name in PACKAGES}
    versions |= {
        "Asterisk": seen.ari.version if seen.ari and seen.ari.version else "not reached",
        "Python": platform.python_version(),
        "OpenSSL": ssl.OPENSSL_VERSION,
        "Linux": platform.release(),
    }
    return Origin(time.time(), _host_id(), versions)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed as a package"


def _host_id() -> str:
    """machine-id(5) asks for a keyed hash wherever the id gets to others."""
    key = MACHINE_ID.read_bytes().strip() if MACHINE_ID.exists() else platform.node().encode()
    return hmac.new(key, b"open-telephony-stack", hashlib.sha256).hexdigest()[:16]


def _access(settings: Settings) -> Access:
    """What the settings say of access and retention."""
    structs = [settings.supervisor, settings.worker, settings.voice_agent]
    values = {
        name: value
        for struct in structs
        if struct is not None
        for name, value in msgspec.structs.asdict(struct).items()
    }
    told = [name for name in values if not is_secret(name)]
    kept = [name for name in told if any(part in name for part in RETENTION)]
    ari = str(values.get("ari_base", "not configured"))
    media = str(values.get("external_media_host", "not configured"))
    return Access(
        http=f"{values.get('http_host', 'not configured')}, plain HTTP",
        ari=f"{ari.partition('@')[2] or ari}",
        media=f"plain RTP at {media}{', on this machine only' if is_loopback(media) else ''}",
        secrets={name.upper(): bool(values[name]) for name in values if is_secret(name)},
        retention={name.upper(): str(values[name]) or "off" for name in sorted(kept)},
    )


if __name__ == "__main__":
    sys.exit(main())
