"""Train one model, or with --multirun a sweep; see --help."""

import sys

from rla_exp.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
