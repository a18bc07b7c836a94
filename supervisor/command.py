"""Commands for operators. Settings come from the environment or .env, as the supervisor's.

restart [WORKER ...]   replace workers while their calls go on; without a number all, in turn
drain                  take no new calls from now on; those that are up go on
undrain                take calls again
health                 the whole picture that /health has for those with credentials
key NAME ROLE          make an API key: prints its secret, and the line for API_KEYS_FILE
audit-verify [FILE]    check the audit log's chain; says which line is broken
"""

import argparse
import http
import os
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

import dotenv
import msgspec

from shim import environment
from shim.environment import ConfigError
from supervisor.api import access, audit_chain
from supervisor.config import TOKEN_FILE, SupervisorConfig

NOT_NEEDED: Final = {"ARI_USER": "none", "ARI_PASS": "none", "ECS_MEDIA_WSS_URL": "none"}


class CommandError(Exception):
    """The command has failed; the text says why."""


def main() -> int:
    """Run the command; returns 0 if all went well."""
    arguments = _parser().parse_args()
    try:
        match arguments.command:
            case "restart":
                _restart(arguments.workers)
            case "drain" | "undrain":
                config = _config()
                method = "POST" if arguments.command == "drain" else "DELETE"
                sys.stdout.write(_ask(config, method, "/drain", _token(config)))
            case "health":
                config = _config()
                sys.stdout.write(_health(config, _token(config)))
            case "key":
                _make_key(arguments.name, arguments.role)
            case "audit-verify":
                _verify(arguments.file)
    except urllib.error.HTTPError as error:
        sys.stderr.write(f"refused ({error.code}): {error.read().decode(errors='replace')}\n")
        return 1
    except (CommandError, ConfigError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m supervisor.command",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    restart = commands.add_parser("restart")
    restart.add_argument("workers", type=int, nargs="*", help="their numbers; none: all")
    for name in ("drain", "undrain", "health"):
        commands.add_parser(name)
    key = commands.add_parser("key")
    key.add_argument("name", help="who has it, as the audit log shows it")
    key.add_argument("role", help="read, operate or admin")
    verify = commands.add_parser("audit-verify")
    verify.add_argument("file", nargs="?", help="default: the log in use")
    return parser


def _config() -> SupervisorConfig:
    """The supervisor's settings; what it needs and commands don't may be missing."""
    given = {**dotenv.dotenv_values(".env"), **os.environ}
    settings = {name: value for name, value in given.items() if value}
    return environment.read(SupervisorConfig, {**NOT_NEEDED, **settings})


def _restart(workers: list[int]) -> None:
    config = _config()
    token = _token(config)
    for worker in workers or _all_workers(config, token):
        answer = _ask(config, "POST", f"/workers/{worker}/restart", token)
        sys.stdout.write(f"worker {worker}: {answer}\n")


def _token(config: SupervisorConfig) -> str:
    return config.api_token or (config.run_path() / TOKEN_FILE).read_text(encoding="ascii")


def _make_key(name: str, role: str) -> None:
    try:
        key, secret = access.new_key(name, role)
    except ValueError as error:
        raise CommandError(str(error)) from error
    sys.stdout.write(
        f"user and secret, shown this once:\n{key.key_id}\n{secret}\n\n"
        f"the line for API_KEYS_FILE:\n{key.line()}\n"
    )


def _verify(given: str | None) -> None:
    path = Path(given) if given else _config().audit_path()
    if path is None:
        raise CommandError("AUDIT_LOG is off; name a file")
    with path.open("rb") as file:
        verdict = audit_chain.verify(file)
    if verdict.broken_line:
        raise CommandError(f"{path}: line {verdict.broken_line} is broken: {verdict.reason}")
    torn = "; the last line is cut off, as by a crash" if verdict.torn else ""
    head = verdict.head
    sys.stdout.write(f"{path}: {verdict.lines} lines, whole{torn}; head {head.seq} {head.hash}\n")


def _all_workers(config: SupervisorConfig, token: str) -> list[int]:
    health = msgspec.json.decode(_health(config, token), type=dict[str, object])
    workers = msgspec.convert(health["workers"], list[dict[str, object]])
    return [msgspec.convert(worker["worker"], int) for worker in workers]


def _health(config: SupervisorConfig, token: str) -> str:
    try:
        return _ask(config, "GET", "/health", token)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.SERVICE_UNAVAILABLE:  # with which it tells of trouble
            raise
        return error.read().decode()


def _ask(config: SupervisorConfig, method: str, path: str, token: str) -> str:
    scheme = "https" if config.http_tls_cert else "http"
    host = f"[{config.http_host}]" if ":" in config.http_host else config.http_host
    url = f"{scheme}://{host}:{config.http_port}{path}"
    headers = {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=60, context=_tls(config)) as answer:
        body: bytes = answer.read()
        return body.decode()


def _tls(config: SupervisorConfig) -> ssl.SSLContext | None:
    """Trusts the supervisor's own certificate and no other, whatever name is in it."""
    if not config.http_tls_cert:
        return None
    context = ssl.create_default_context(cafile=config.http_tls_cert)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False
    return context


if __name__ == "__main__":
    sys.exit(main())
