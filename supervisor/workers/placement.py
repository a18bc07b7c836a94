"""Which worker takes a new call. Pure."""

from collections.abc import Iterable

from msgspec import Struct


class Load(Struct, frozen=True):
    """How busy a worker is. `overloaded`: its pacer has been late for seconds."""

    worker: int
    calls: int
    free_ports: int
    overloaded: bool = False


def rank(loads: Iterable[Load]) -> list[int]:
    """The workers to try, best first: those that are in time, fewest calls, most free ports."""
    return [
        load.worker
        for load in sorted(
            loads, key=lambda load: (load.overloaded, load.calls, -load.free_ports, load.worker)
        )
    ]
