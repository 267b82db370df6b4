"""Measure what a token costs after ever more tokens; see --help."""

import sys

from rla_exp.cli.decoding_cost import main

if __name__ == "__main__":
    sys.exit(main())
