"""Say what a table would cost; see --help."""

import sys

from rla_exp.cli.plan import main

if __name__ == "__main__":
    sys.exit(main())
