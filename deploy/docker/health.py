"""`python -m deploy.docker.health HTTP`: whether the program in this container answers /health.

The argument is the prefix of the variables that say where: HTTP_HOST and HTTP_PORT (supervisor), or
VOICE_AGENT_HOST and VOICE_AGENT_PORT. A supervisor that waits for Asterisk is degraded but well:
killing it would help nobody, so any answer that names a status counts.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Final

DEFAULT_PORTS: Final = {"HTTP": "8080", "VOICE_AGENT": "8081"}
ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses to listen on that nobody can connect to everywhere, and what to ask instead."""
TIMEOUT_S: Final = 4.0


def url(prefix: str, environment: Mapping[str, str]) -> str:
    """Where the program's /health is."""
    host = environment.get(f"{prefix}_HOST") or "127.0.0.1"
    host = ANYWHERE.get(host, host)
    port = environment.get(f"{prefix}_PORT") or DEFAULT_PORTS[prefix]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/health"


def problem(address: str) -> str:
    """Why the program is not well; empty if it is."""
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:
            body = answer.read()
    except urllib.error.HTTPError as error:
        body = error.read()
    except OSError as error:
        return f"{address}: {error}"
    try:
        return "" if json.loads(body)["status"] else f"{address}: no status"
    except (ValueError, LookupError, TypeError) as error:
        return f"{address}: the answer is no health report ({error!r})"


def main() -> int:
    """The exit code for HEALTHCHECK: 0 well, 1 not."""
    if sys.argv[1:2] == [] or sys.argv[1] not in DEFAULT_PORTS:
        sys.stderr.write(f"the argument must be one of {' '.join(DEFAULT_PORTS)}\n")
        return 1
    why = problem(url(sys.argv[1], os.environ))
    sys.stderr.write(f"{why}\n" if why else "")
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main())
