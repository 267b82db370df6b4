"""Write a run's model for transformers; see --help."""

import sys

from rla_exp.cli.export import main

if __name__ == "__main__":
    sys.exit(main())
