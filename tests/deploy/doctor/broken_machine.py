"""`ots-doctor` as it would be on a machine whose clock nobody keeps right.

All else that is wrong is so for real; the kernel's clock is the machine's, not ours to break.
"""

import sys

from deploy.doctor.__main__ import main
from deploy.doctor.facts import ClockFacts

if __name__ == "__main__":
    sys.exit(main(clock=lambda: ClockFacts(synchronized=False, max_error_ms=16000.0, source="tsc")))
