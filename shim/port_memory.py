"""The port table as a memory-mapped file, made by the supervisor and attached to by workers.

A plain file and `mmap`, because `multiprocessing.shared_memory` unlinks a segment when a
process that merely attached to it exits.
"""

import mmap
import os
import time
from pathlib import Path
from typing import Final

from shim.port_layout import LayoutError, PortLayout, Shape, initialize

FILE_NAME: Final = "ports"
"""The table's file in the run directory."""


class PortMemory:
    """A mapped table: use `layout`, then `close` it; `path` stays until somebody unlinks it."""

    def __init__(self, path: Path, memory: mmap.mmap, layout: PortLayout) -> None:
        self.path = path
        self.layout = layout
        self._memory = memory

    def close(self) -> None:
        """Unmap the table."""
        self.layout.release()
        self._memory.close()


def create(path: Path, shape: Shape) -> PortMemory:
    """Make a new table with all ports free, in place of whatever was at `path`."""
    draft = path.with_suffix(".new")
    with draft.open("w+b") as file:
        os.fchmod(file.fileno(), 0o600)
        file.truncate(shape.size_bytes)
        memory = mmap.mmap(file.fileno(), shape.size_bytes)
    layout = initialize(memoryview(memory), shape, time.time_ns())
    draft.rename(path)
    return PortMemory(path, memory, layout)


def attach_or_create(path: Path, shape: Shape) -> PortMemory:
    """Go on with the table of an earlier supervisor if it has this shape, else make a new one."""
    try:
        memory = attach(path)
    except (FileNotFoundError, LayoutError):
        return create(path, shape)
    if memory.layout.shape == shape:
        return memory
    memory.close()
    return create(path, shape)


def attach(path: Path) -> PortMemory:
    """Map an existing table.

    Raises:
        FileNotFoundError: there is none.
        LayoutError: the file is no table of this version.
    """
    with path.open("r+b") as file:
        if not os.fstat(file.fileno()).st_size:
            raise LayoutError(f"{path} is empty")
        memory = mmap.mmap(file.fileno(), 0)
    view = memoryview(memory)
    try:
        return PortMemory(path, memory, PortLayout(view))
    except LayoutError:
        view.release()
        memory.close()
        raise
