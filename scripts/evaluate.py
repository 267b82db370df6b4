"""Score a trained model; see --help."""

import sys

from rla_exp.cli.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
