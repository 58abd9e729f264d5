"""`python -m guard.backend.testbed`; see commands.py."""

import sys

from guard.backend.testbed.commands import main

if __name__ == "__main__":
    sys.exit(main())
