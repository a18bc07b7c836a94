"""Which versions of Asterisk have the security and bridge fixes that the stack relies on. Pure."""

import re

OLDEST_GOOD = {20: (20, 20, 1), 21: (21, 12, 3), 22: (22, 10, 1), 23: (23, 4, 1)}
"""By branch. Later branches began with the fixes in them; earlier ones get none any more."""


def complaint_about_version(text: str) -> str | None:
    """What is wrong with a version, as `asterisk -V` or ARI's `system.version` has it.

    None for a good one, and for text without a version: a build of one's own can have any name.
    """
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    if found is None:
        return None
    version = (int(found[1]), int(found[2]), int(found[3]))
    if version[0] > max(OLDEST_GOOD) or version >= OLDEST_GOOD.get(version[0], (max(OLDEST_GOOD),)):
        return None
    good = ", ".join(".".join(map(str, oldest)) for oldest in OLDEST_GOOD.values())
    return f"Asterisk {found[0]} lacks security fixes: use at least {good} of its branch"
