"""Measure a backend of the operator against the definition in float64; see --help."""

import sys

from rla_exp.cli.check_kernels import main

if __name__ == "__main__":
    sys.exit(main())
