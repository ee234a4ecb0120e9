"""`python -m rnnlab` is the command `rnnlab`."""

import sys

from rnnlab.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
