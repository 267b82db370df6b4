"""Time the scoring of choices with and without reuse of the state; see --help."""

import sys

from rla_exp.cli.measure_reuse import main

if __name__ == "__main__":
    sys.exit(main())
