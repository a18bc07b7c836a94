"""What the benchmark measures: our worker under our supervisor, a floor in C, a textbook version.

Each is an async context manager that yields when all calls of a load have audio both ways.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from loadtest.bench_ari import APP, BenchAri
from loadtest.bench_load import Load
from loadtest.bench_programs import BenchError, Program, children, compiled, pin, rss_kb
from loadtest.stack import free_port

TEXTBOOK_MOST: Final = 100
"""With more calls the textbook version drifts so far that it isn't the same work any more."""
FEW_CALLS: Final = 10
"""Memory per call is measured from so many on: what the first ones load is not theirs alone."""
START_S: Final = 20.0
CALL_S: Final = 0.2
"""A call's share of the time in which all must have audio."""
SPACING_S: Final = 0.005
POLL_S: Final = 0.05


class Place(msgspec.Struct, frozen=True):
    """Where things are: the CPUs that are measured, the voice server's port, files.

    `ca_file` is the voice server's certificate authority; empty: plain WebSockets. `settings` are
    environment variables of our supervisor and its workers.
    """

    directory: Path
    measured: tuple[int, ...]
    voice_port: int
    ca_file: str
    settings: Mapping[str, str] = {}

    @property
    def url(self) -> str:
        """The voice server's."""
        return f"{'wss' if self.ca_file else 'ws'}://127.0.0.1:{self.voice_port}/"


class Running(msgspec.Struct, frozen=True):
    """What serves the calls: its processes, and how much memory they had (KiB) with FEW_CALLS.

    `helpers` are processes that they have started, which are not measured with them.
    """

    pids: list[int]
    few_rss_kb: int | None = None
    helpers: list[int] = []


Contender = Callable[[Place, Load], AbstractAsyncContextManager[Running]]


def patience_s(calls: int) -> float:
    """So long may it take until so many calls have audio."""
    return START_S + calls * CALL_S


@asynccontextmanager
async def ours(place: Place, load: Load) -> AsyncIterator[Running]:
    """One worker per measured CPU, with the real supervisor, which makes the calls' sockets."""
    async with BenchAri(load.first_port) as ari:
        environment = _settings(place, load, ari.base)
        command = [sys.executable, "-m", "supervisor"]
        supervisor = Program(command, place.directory, environment=environment, by_signal=True)
        async with supervisor:
            pids = await _workers(supervisor, environment)
            for pid, cpu in zip(pids, place.measured, strict=True):
                pin(pid, {cpu})
            few = min(FEW_CALLS, load.calls)
            await _call(ari, few)
            await load.until_echoing(few, patience_s(few), supervisor)
            few_rss_kb = sum(map(rss_kb, pids))
            await _call(ari, load.calls - few)
            await load.until_echoing(load.calls, patience_s(load.calls), supervisor)
            helpers = [child for pid in pids for child in children(pid)]
            yield Running(pids, few_rss_kb if few < load.calls else None, helpers)
            _ = supervisor.pid  # raises if it has ended in between


@asynccontextmanager
async def floor(place: Place, load: Load) -> AsyncIterator[Running]:
    """The program `c/floor.c`."""
    ports = (load.peer_ports.start, load.first_port, place.voice_port)
    command = [str(compiled("floor")), str(load.calls), *map(str, ports)]
    async with _alone(command, place, load) as running:
        yield running


@asynccontextmanager
async def textbook(place: Place, load: Load) -> AsyncIterator[Running]:
    """The program `bench_textbook.py`."""
    calls_and_ports = (load.calls, load.peer_ports.start, load.first_port)
    module = [sys.executable, "-m", "loadtest.bench_textbook"]
    tls = [place.ca_file] if place.ca_file else []
    command = [*module, *map(str, calls_and_ports), place.url, *tls]
    async with _alone(command, place, load) as running:
        yield running


CONTENDERS: Final[dict[str, Contender]] = {"ours": ours, "floor": floor, "textbook": textbook}


@asynccontextmanager
async def _alone(command: list[str], place: Place, load: Load) -> AsyncIterator[Running]:
    """A program that serves all calls by itself, and says a line when it has begun."""
    async with Program(command, place.directory) as program:
        pin(program.pid, {place.measured[0]})
        await program.hear(patience_s(load.calls))
        await load.until_echoing(load.calls, patience_s(load.calls), program)
        yield Running([program.pid])


async def _call(ari: BenchAri, calls: int) -> None:
    """Let so many callers come, one after the other."""
    for _ in range(calls):
        await ari.call()
        await asyncio.sleep(SPACING_S)


async def _workers(supervisor: Program, environment: Mapping[str, str]) -> list[int]:
    """Wait until the supervisor is ready; returns its workers' processes."""
    deadline = time.monotonic() + START_S
    url = f"http://127.0.0.1:{environment['HTTP_PORT']}/health"
    headers = {"Authorization": f"Bearer {environment['API_TOKEN']}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        while time.monotonic() < deadline:
            _ = supervisor.pid  # raises if it has ended
            health = await _health(session, url)
            if health.get("status") == "ok":
                return [worker["pid"] for worker in health["workers"]]
            await asyncio.sleep(POLL_S)
    raise BenchError(f"the supervisor did not get ready: {supervisor.story}")


async def _health(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    try:
        async with session.get(url) as answer:
            return msgspec.json.decode(await answer.read(), type=dict[str, Any])
    except aiohttp.ClientConnectionError:
        return {}  # not listening yet


def _settings(place: Place, load: Load, ari_base: str) -> dict[str, str]:
    """The supervisor's environment. All that could come from elsewhere is emptied."""
    return {
        "ARI_BASE": ari_base,
        "ARI_USER": "bench",
        "ARI_PASS": secrets.token_urlsafe(16),
        "ARI_APP": APP,
        "ECS_MEDIA_WSS_URL": place.url,
        "STREAM_CA_FILE": place.ca_file,
        "EXTERNAL_MEDIA_HOST": "127.0.0.1",
        "RTP_PORT_START": str(load.peer_ports.start),
        "RTP_PORT_END": str(load.peer_ports.stop - 1),
        "ASTERISK_RTP_START": "10000",
        "ASTERISK_RTP_END": "65535",
        "HTTP_PORT": str(free_port(socket.SOCK_STREAM)),
        "API_TOKEN": secrets.token_urlsafe(16),
        "AUDIT_LOG": "off",
        "RUN_DIR": str(place.directory / "run"),
        "WORKERS": str(len(place.measured)),
        "SETUP_TIMEOUT": str(patience_s(load.calls)),
        "DRAIN_SECONDS": "0",
        "LOG_LEVEL": "INFO",
        **place.settings,
    }
