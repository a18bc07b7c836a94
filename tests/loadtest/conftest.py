"""Fixtures of the stand-in's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from loadtest.stand_in import StandIn
from tests.loadtest.stand_in_rig import VALUES, Ari, Caller, Udp


@pytest.fixture
async def stand_in() -> AsyncIterator[StandIn]:
    """A stand-in on ports of its own; afterwards nothing may be left in it."""
    async with StandIn(VALUES) as stand_in:
        yield stand_in
    assert stand_in.state().rtp_ports == []


@pytest.fixture
async def ari(stand_in: StandIn) -> AsyncIterator[Ari]:
    """A client of the stand-in that listens to the application's events."""
    async with Ari(stand_in.ari_base, VALUES.ari_user, VALUES.ari_pass) as ari, ari.listening():
        yield ari


@pytest.fixture
def caller(stand_in: StandIn) -> Iterator[Caller]:
    """A phone that has not called yet."""
    with Caller(stand_in.sip_address) as caller:
        yield caller


@pytest.fixture
def peer() -> Iterator[Udp]:
    """Where external media goes: the socket of a worker."""
    udp = Udp()
    yield udp
    udp.socket.close()
