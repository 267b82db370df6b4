"""Kill a sweep over and over and compare its numbers with an undisturbed one: python scripts/fault_test.py --help"""

import sys

from rla_exp.cli.fault_test import main

if __name__ == "__main__":
    sys.exit(main())
