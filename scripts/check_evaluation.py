"""Compare our lm-eval adapter with lm-eval's own on the exported model; see --help."""

import sys

from rla_exp.cli.check_evaluation import main

if __name__ == "__main__":
    sys.exit(main())
