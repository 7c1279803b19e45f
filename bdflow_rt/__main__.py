"""`python -m bdflow_rt` is the `bdflow` command."""

import sys

from bdflow_rt.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
