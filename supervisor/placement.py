"""Which worker takes a new call. Pure."""

from collections.abc import Iterable

from msgspec import Struct


class Load(Struct, frozen=True):
    """How busy a worker is. `lateness_ms`: how late its pacer was at worst in the last second."""

    worker: int
    calls: int
    free_ports: int
    lateness_ms: float = 0.0


def rank(loads: Iterable[Load]) -> list[int]:
    """The workers to try, best first: fewest calls, then the one with more free ports."""
    return [load.worker for load in sorted(loads, key=lambda load: (load.calls, -load.free_ports))]
