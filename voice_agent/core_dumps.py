"""Core dumps: off, as they hold what is said in calls, numbers and keys.

The limit alone isn't enough: the kernel ignores it where dumps go to a program (`|` in
kernel.core_pattern, core(5)). A process that isn't dumpable has none at all, and others of its
user can't read its memory and environment either (prctl(2), ptrace(2)).
"""

import ctypes
import os
import resource
from typing import Final

PR_SET_DUMPABLE: Final = 4


def forbid() -> None:
    """No core dump of this process, and by the limit none of those that it starts."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
