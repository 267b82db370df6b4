"""Write the computed parts of docs/kernels.md; see --help."""

import sys

from rla_exp.cli.kernel_docs import main

if __name__ == "__main__":
    sys.exit(main())
