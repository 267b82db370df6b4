"""Build the HTML dashboard from the runs on disk; see --help."""

import sys

from rla_exp.cli.dashboard import main

if __name__ == "__main__":
    sys.exit(main())
