"""`python -m loadtest.pbx`: become the Asterisk of the demo, or its stand-in.

`ASTERISK=real` or `ASTERISK=stand-in` in the environment says which; without it the real one is
taken wherever it can run.
"""

import os
import sys
from typing import Final

from deploy.asterisk_rootfs import obstacle

REAL: Final = "deploy.run_asterisk"
STAND_IN: Final = "loadtest.stand_in"
CHOICES: Final = {"real": REAL, "stand-in": STAND_IN}


def main() -> None:
    """Replace this process by the chosen program; exits with 78 when the choice makes no sense."""
    choice = os.environ.get("ASTERISK", "")
    if choice and choice not in CHOICES:
        sys.stderr.write(f"ASTERISK is {choice!r}, allowed is {' or '.join(CHOICES)}\n")
        sys.exit(78)
    module = CHOICES.get(choice) or (STAND_IN if obstacle() else REAL)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module])


if __name__ == "__main__":
    main()
