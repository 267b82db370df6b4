"""Train what a table lacks and write it; see --help."""

import sys

from rla_exp.cli.table import main

if __name__ == "__main__":
    sys.exit(main())
