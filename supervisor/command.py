"""`python -m supervisor.command restart [WORKER ...]`: replace workers while their calls go on.

Settings come from the environment or .env, as the supervisor's. Without a number all workers are
replaced, one after the other.
"""

import argparse
import os
import sys
import urllib.error
import urllib.request

import dotenv
import msgspec

from shim import environment
from shim.environment import ConfigError
from supervisor.config import TOKEN_FILE, SupervisorConfig


def main() -> int:
    """Run the command; returns 0 if all went well."""
    parser = argparse.ArgumentParser(prog="python -m supervisor.command", description=__doc__)
    parser.add_argument("command", choices=["restart"])
    parser.add_argument("workers", type=int, nargs="*", help="their numbers; none: all")
    arguments = parser.parse_args()
    from_file = {name: value or "" for name, value in dotenv.dotenv_values(".env").items()}
    try:
        config = environment.read(SupervisorConfig, {**from_file, **os.environ})
        token = config.api_token or (config.run_path() / TOKEN_FILE).read_text(encoding="ascii")
        for worker in arguments.workers or _all_workers(config):
            answer = _ask(config, "POST", f"/workers/{worker}/restart", token)
            sys.stdout.write(f"worker {worker}: {answer}\n")
    except urllib.error.HTTPError as error:
        sys.stderr.write(f"refused ({error.code}): {error.read().decode(errors='replace')}\n")
        return 1
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _all_workers(config: SupervisorConfig) -> list[int]:
    health = msgspec.json.decode(_ask(config, "GET", "/health", ""), type=dict[str, object])
    workers = msgspec.convert(health["workers"], list[dict[str, object]])
    return [msgspec.convert(worker["worker"], int) for worker in workers]


def _ask(config: SupervisorConfig, method: str, path: str, token: str) -> str:
    url = f"http://{config.http_host}:{config.http_port}{path}"
    headers = {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        body: bytes = answer.read()
        return body.decode()


if __name__ == "__main__":
    sys.exit(main())
