"""Measure run time and memory of the kernels and of training whole models; see --help."""

import sys

from rla_exp.cli.bench import main

if __name__ == "__main__":
    sys.exit(main())
