"""Hand runs on to another machine as one small file; see --help."""

import sys

from rla_exp.cli.hand_over import main

if __name__ == "__main__":
    sys.exit(main())
