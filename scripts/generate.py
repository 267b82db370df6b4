"""Let a trained model write; see --help."""

import sys

from rla_exp.cli.generate import main

if __name__ == "__main__":
    sys.exit(main())
