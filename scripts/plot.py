"""Draw finished runs; see --help."""

import sys

from rla_exp.cli.plot import main

if __name__ == "__main__":
    sys.exit(main())
