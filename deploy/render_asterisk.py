"""`python -m deploy.render_asterisk DIR`: write Asterisk's configuration, from the environment."""

import os
import sys
from pathlib import Path

from deploy.asterisk_config import ConfigurationError, render, values_from_environment

CANNOT_START = 78
"""Exit code when a start would fail again in the same way (EX_CONFIG in sysexits.h)."""


def main() -> int:
    """The command line; the exit code is returned."""
    if len(sys.argv) != 2:
        sys.stderr.write("the one argument is the directory, e.g. /etc/asterisk\n")
        return CANNOT_START
    try:
        render(values_from_environment(os.environ), Path(sys.argv[1]))
    except (ConfigurationError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return CANNOT_START
    return 0


if __name__ == "__main__":
    sys.exit(main())
