"""The whole system on the real Asterisk, whose ARI comes through a proxy that can be disturbed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from loadtest.tcp_proxy import TcpProxy
from tests.supervisor.stack import RunningStack


class ProxiedStack(RunningStack):
    """The supervisor's connections to ARI go through `proxy`."""

    proxy: TcpProxy


@asynccontextmanager
async def proxied_stack(**settings: str) -> AsyncIterator[ProxiedStack]:
    """All parts, up and connected."""
    running = ProxiedStack(real=True, settings=settings)
    host, _, port = running.environment["ARI_BASE"].removeprefix("http://").partition(":")
    async with TcpProxy((host, int(port))) as proxy:
        running.proxy = proxy
        running.for_supervisor["ARI_BASE"] = f"http://127.0.0.1:{proxy.port}"
        # In a thread: the supervisor's start waits for ARI, which comes through our proxy.
        await asyncio.to_thread(running.__enter__)
        try:
            yield running
        finally:
            await asyncio.to_thread(running.__exit__)
