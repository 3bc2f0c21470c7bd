"""`python -m wsesim.cli`."""

import sys

from wsesim.cli import main

if __name__ == "__main__":
    sys.exit(main())
